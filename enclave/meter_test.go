package enclave

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(100)
		if err := m.wait(t.Context(), 100, time.Minute); err != nil {
			t.Fatal(err)
		}
		// Patience ends, to the second, however often too little comes.
		began := time.Now()
		go func() {
			for i := range 5 {
				time.Sleep(10 * time.Second)
				m.raise(uint64(101 + i))
			}
		}()
		if err := m.wait(t.Context(), 200, time.Minute); !errors.Is(err, errNoCredit) || time.Since(began) != time.Minute {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		// A raise ends the wait at once.
		began = time.Now()
		time.AfterFunc(7*time.Second, func() { m.raise(200) })
		if err := m.wait(t.Context(), 200, time.Minute); err != nil || time.Since(began) != 7*time.Second {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
		// So does the end of the request, with its reason.
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errSettled) })
		if err := m.wait(ctx, 201, time.Minute); !errors.Is(err, errSettled) {
			t.Fatal(err)
		}
	})
}

func TestMeterTells(t *testing.T) {
	m := newMeter(100)
	for _, c := range []struct {
		cost uint64
		low  bool
	}{{0, false}, {50, false}, {51, true}, {60, false}, {100, false}} {
		if _, low := m.charge(c.cost); low != c.low {
			t.Errorf("at cost %d: told %v", c.cost, low)
		}
	}
	m.raise(90) // never down
	if credit, _ := m.limit(); credit != 100 {
		t.Errorf("credit %d", credit)
	}
	m.raise(200) // a window of 100 again
	for _, c := range []struct {
		cost uint64
		low  bool
	}{{150, false}, {151, true}, {152, false}} {
		if _, low := m.charge(c.cost); low != c.low {
			t.Errorf("after a raise at cost %d: told %v", c.cost, low)
		}
	}
	if m.spent() != 152 {
		t.Errorf("spent %d", m.spent())
	}
}

func TestEndedStreamsAreBounded(t *testing.T) {
	var s endedStreams
	now := time.Unix(1_800_000_000, 0)
	id := func(i int) (id streamID) { binary.BigEndian.PutUint32(id[:], uint32(i)); return }
	has := func(i int) bool { _, ok := s.cost[id(i)]; return ok }
	for i := range maxEnded + 100 {
		s.add(id(i), uint64(i), nil, now)
	}
	if len(s.cost) != maxEnded || has(99) || !has(100) {
		t.Fatalf("%d remembered", len(s.cost))
	}
	last := maxEnded + 100
	s.add(id(last), 1, nil, now.Add(keepFor+time.Second))
	if len(s.cost) != 1 || !has(last) {
		t.Fatalf("%d remembered after ten minutes", len(s.cost))
	}
}
