package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/filelock"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// gather is the least time between two transactions that nobody waits for: a busy client's receipts share them.
const gather = 50 * time.Millisecond

// Save returns a function for client.Payment.Save. It records progress and receipts in the order of the calls and returns at
// once; Flush and Close wait until everything is on disk. A crash loses at most what was still on its way there, which is never
// a voucher that has left (client.Payment.Flush): the next receipts continue the chain from the last one saved.
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
	s.wake()
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
	s.wake()
	s.mu.Unlock()
	<-s.done
	if err := s.db.Close(); err != nil && s.failure == nil {
		return fmt.Errorf("store: %w", err)
	}
	return s.failure
}

// wake has the writer not wait for more.
func (s *Store) wake() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}

// write is the one goroutine that records saves: everything pending in one transaction.
func (s *Store) write() {
	defer close(s.done)
	var r recorder
	defer r.close()
	pause := time.NewTimer(0)
	defer pause.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.pending) == 0 && !s.closed {
			s.more.Wait()
		}
		if len(s.pending) == 0 {
			return
		}
		s.mu.Unlock()
		select {
		case <-pause.C:
		case <-s.hurry:
		}
		s.mu.Lock()
		batch, upTo := s.pending, s.queued
		s.pending = nil
		s.mu.Unlock()
		err := r.record(s.db, batch)
		pause.Reset(gather)
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

// A recorder is the writer's connection, with its statements.
type recorder struct {
	conn             *sql.Conn
	advance, receipt *sql.Stmt
}

func (r *recorder) open(ctx context.Context, db *sql.DB) (err error) {
	if r.conn, err = db.Conn(ctx); err != nil {
		return err
	}
	// A signature cannot be taken back.
	if r.advance, err = r.conn.PrepareContext(ctx, `UPDATE channels SET signed = max(signed, ?), settled = ?, head = ? WHERE address = ?`); err != nil {
		return err
	}
	r.receipt, err = r.conn.PrepareContext(ctx, `INSERT INTO receipts (channel, seq, receipt, head)
		SELECT ?, coalesce(max(seq), 0) + 1, ?, ? FROM receipts WHERE channel = ?`)
	return err
}

func (r *recorder) close() {
	if r.conn != nil {
		r.conn.Close()
	}
}

func (r *recorder) record(db *sql.DB, batch []save) error {
	ctx := context.Background()
	if r.receipt == nil {
		if err := r.open(ctx, db); err != nil {
			return err
		}
	}
	tx, err := r.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	advance, receipt := tx.StmtContext(ctx, r.advance), tx.StmtContext(ctx, r.receipt)
	reached := map[string]client.PaymentState{}
	for _, w := range batch {
		w.state.Signed = max(w.state.Signed, reached[w.address].Signed)
		reached[w.address] = w.state
	}
	for address, state := range reached {
		result, err := advance.ExecContext(ctx, int64(state.Signed), int64(state.Settled), hex.EncodeToString(state.Head[:]), address)
		if err := changed(result, err, ErrUnknown); err != nil {
			return err
		}
	}
	for _, w := range batch {
		if w.receipt != "" {
			if _, err := receipt.ExecContext(ctx, w.address, w.receipt, hex.EncodeToString(w.state.Head[:]), w.address); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// Acquire reserves a channel for this process, or returns ErrBusy: two processes that sign for one channel would each take
// the other's vouchers for its own. Release it; a process that dies releases it too.
func (s *Store) Acquire(a channel.Address) (release func(), err error) {
	f, err := os.OpenFile(s.path+"."+hex.EncodeToString(a[:8])+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := filelock.Try(f); err != nil {
		f.Close()
		if errors.Is(err, filelock.ErrHeld) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("store: %w", err)
	}
	return sync.OnceFunc(func() { f.Close() }), nil
}
