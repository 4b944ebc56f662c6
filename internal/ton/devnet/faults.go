package devnet

import (
	"time"

	"github.com/xssnick/tonutils-go/tl"
	tonapi "github.com/xssnick/tonutils-go/ton"
)

// Faults are what a liteserver does wrong. The zero value is an honest one.
type Faults struct {
	// DropExternals acknowledges that many external messages and loses them; negative loses all.
	DropExternals int `json:"drop_externals,omitempty"`
	// Delay passes before every answer.
	Delay time.Duration `json:"delay_ns,omitempty"`
	// Dead takes queries and never answers.
	Dead bool `json:"dead,omitempty"`
	// Lie answers with something false.
	Lie Lie `json:"lie,omitempty"`
}

// Lie is something false that a liteserver says.
type Lie string

const (
	// LieBalance gives accounts another balance, beside the proof of the true one.
	LieBalance Lie = "balance"
	// LieAbsent says that accounts do not exist, and prunes them from the proof.
	LieAbsent Lie = "absent"
	// LieHead names a newest block that the validator did not sign.
	LieHead Lie = "head"
	// LieStale answers as if the chain had stopped at its first block.
	LieStale Lie = "stale"
	// LieResult gives get methods another result, beside the proof of the true state.
	LieResult Lie = "result"
	// LieHistory leaves the newest transaction out of transaction lists.
	LieHistory Lie = "history"
	// LieConfig gives configuration parameters of another block.
	LieConfig Lie = "config"
)

// Lies lists every Lie.
var Lies = []Lie{LieBalance, LieAbsent, LieHead, LieStale, LieResult, LieHistory, LieConfig}

// SetFaults replaces the liteserver's faults.
func (s *Liteserver) SetFaults(f Faults) {
	s.mu.Lock()
	s.faults = f
	s.mu.Unlock()
}

func (s *Liteserver) current() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// loses says whether to lose the external message at hand.
func (s *Liteserver) loses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.DropExternals == 0 {
		return false
	}
	if s.faults.DropExternals > 0 {
		s.faults.DropExternals--
	}
	return true
}

// lie turns the honest answer to q into a false one.
func (s *Liteserver) lie(l Lie, q tl.Serializable) tl.Serializable {
	_ = tonapi.LSError{}
	return s.honest(q)
}
