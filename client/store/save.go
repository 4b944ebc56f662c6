package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// Save returns a function for client.Payment.Save. It records progress and receipts in the order of the calls and returns at
// once; Flush and Close wait until everything is on disk. A crash loses at most what was still on its way there: the host
// then shows the client's own vouchers, and the next receipts continue the chain from the last one saved.
//
// When the disk fails, the store records nothing more and Failed is closed: stop paying.
func (s *Store) Save(a channel.Address) func(client.PaymentState, string) {
	address := a.Raw()
	return func(p client.PaymentState, receipt string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed || s.failure != nil {
			return
		}
		s.queued++
		// Of several states in a row only the last matters; receipts all do.
		if n := len(s.pending); n > 0 && s.pending[n-1].receipt == "" && s.pending[n-1].address == address {
			s.pending[n-1] = save{address, p, receipt}
		} else {
			s.pending = append(s.pending, save{address, p, receipt})
		}
		s.more.Broadcast()
	}
}

// Failed is closed when a Save could not be recorded; Flush then says why.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Flush waits until everything that was saved before is on disk, and says why if it cannot be.
func (s *Store) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for want := s.queued; s.written < want && s.failure == nil; {
		s.more.Wait()
	}
	return s.failure
}

// Close writes what is pending and closes the file. Saves after it are lost.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return ErrClosed
	}
	s.closed = true
	s.more.Broadcast()
	s.mu.Unlock()
	<-s.done
	if err := s.db.Close(); err != nil && s.failure == nil {
		return fmt.Errorf("store: %w", err)
	}
	return s.failure
}

// write is the one goroutine that records saves: everything pending in one transaction.
func (s *Store) write() {
	defer close(s.done)
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.pending) == 0 && !s.closed {
			s.more.Wait()
		}
		if len(s.pending) == 0 {
			return
		}
		batch, upTo := s.pending, s.queued
		s.pending = nil
		s.mu.Unlock()
		err := s.record(batch)
		s.mu.Lock()
		if err != nil {
			s.failure = fmt.Errorf("store: progress could not be recorded: %w", err)
			s.pending = nil
			close(s.failed)
			s.more.Broadcast()
			return
		}
		s.written = upTo
		s.more.Broadcast()
	}
}

func (s *Store) record(batch []save) error {
	ctx := context.Background()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, w := range batch {
		if err := recordOne(ctx, tx, w); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func recordOne(ctx context.Context, tx *sql.Tx, w save) error {
	head := hex.EncodeToString(w.state.Head[:])
	// Totals only ever rise.
	r, err := tx.ExecContext(ctx, `UPDATE channels SET signed = max(signed, ?), settled = max(settled, ?), head = ? WHERE address = ?`,
		int64(w.state.Signed), int64(w.state.Settled), head, w.address)
	if err := changed(r, err, ErrUnknown); err != nil {
		return err
	}
	if w.receipt == "" {
		return nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO receipts (channel, seq, receipt, head)
		SELECT ?, coalesce(max(seq), 0) + 1, ?, ? FROM receipts WHERE channel = ?`, w.address, w.receipt, head, w.address)
	return err
}

// Acquire reserves a channel for this process, or returns ErrBusy: two processes that sign for one channel would each take
// the other's vouchers for its own. Release it; a process that dies releases it too.
func (s *Store) Acquire(a channel.Address) (release func(), err error) {
	l, err := lock(s.path + "." + hex.EncodeToString(a[:8]) + ".lock")
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { l.Close() }), nil
}
