package envelope

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// encOf is the encapsulated key of a sealed request.
func encOf(t *testing.T, s *Sender) string {
	t.Helper()
	wire, _ := sealAll(t, s, newRequest(t, bytes.NewReader([]byte("hello"))))
	return string(wire[headerSize : headerSize+s.schedule.kem.CiphertextSize()])
}

func TestPreparedEncapsulation(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	s.Prepare()
	p := s.prepared.Load()
	s.Prepare()
	if s.prepared.Load() != p {
		t.Error("a second encapsulation has taken the place of the first")
	}
	wire, _ := sealAll(t, s, newRequest(t, bytes.NewReader([]byte("hello"))))
	if !bytes.Contains(wire, p.x.enc) {
		t.Error("what was prepared is not used")
	}
	if _, _, err := r.Open(t.Context(), bytes.NewReader(wire)); err != nil {
		t.Error(err)
	}
	if encOf(t, s) == string(p.x.enc) {
		t.Error("it is used twice")
	}
}

func TestPreparedEncapsulationExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newPair(t, XWing, AES256GCM)
		s.Prepare()
		p := s.prepared.Load()
		time.Sleep(preparedFor)
		synctest.Wait()
		if s.prepared.Load() != nil || !bytes.Equal(p.x.secret, make([]byte, len(p.x.secret))) {
			t.Error("it is still there")
		}
		if encOf(t, s) == string(p.x.enc) {
			t.Error("it is used")
		}
	})
}

func TestPrepareAndSealAtOnce(t *testing.T) {
	s, _ := newPair(t, XWing, AES256GCM)
	var seen sync.Map
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				s.Prepare()
				if _, used := seen.LoadOrStore(encOf(t, s), true); used {
					t.Error("an encapsulation is used twice")
				}
			}
		})
	}
	all.Wait()
}
