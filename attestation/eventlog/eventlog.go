// Package eventlog reads the logs that explain measurement registers: TCG
// crypto-agile logs of TPM PCRs and confidential-computing logs (CCEL) of TDX
// RTMRs (TCG PC Client Platform Firmware Profile 1.04; UEFI 2.10, 38.4), the
// canonical event log in TLV encoding (TCG CEL 1.0), and dstack's JSON log.
//
// A log is a claim. Two things make it worth something, and both are checked
// here: replayed event by event it must give the registers of a verified quote,
// and the data that an event shows must be the data that was measured. The
// first says nothing about the second: a register holds digests only, so a log
// with its data exchanged replays just as well. Hence every event carries a
// [Binding], and only data that is [Bound] may be believed. An event's type is
// never measured on its own.
//
// The package is pure, offline and decides nothing.
package eventlog

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // TPM banks of old platforms
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bombyx-network/bombyx/attestation/check"
)

// Limits on a log. A CCEL area has at most 256 KiB on known platforms.
const (
	MaxSize   = 4 << 20 // bytes of a log
	MaxEvents = 16384   // events of a log
)

// Registers says which family of registers a log is about.
type Registers uint8

const (
	PCR  Registers = iota + 1 // TPM PCR 0 to 23
	RTMR                      // TDX RTMR 0 to 3, SHA-384
)

// String returns "pcr" or "rtmr".
func (r Registers) String() string {
	switch r {
	case PCR:
		return "pcr"
	case RTMR:
		return "rtmr"
	}
	return "register"
}

// Binding says what an event's digest proves about its data.
type Binding uint8

const (
	// Contradicted: the event's type defines the digest by the data, and the
	// digest is another. The data was exchanged. It is the zero value.
	Contradicted Binding = iota
	// Unbound: the digest is of something that the log does not hold, such as
	// the firmware image at an address. The data is a hint.
	Unbound
	// Bound: the digest covers the data.
	Bound
	// NotMeasured: the event was not extended into its register (EV_NO_ACTION).
	NotMeasured
)

// String returns the name of the binding in lower case.
func (b Binding) String() string {
	switch b {
	case Contradicted:
		return "contradicted"
	case Unbound:
		return "unbound"
	case Bound:
		return "bound"
	case NotMeasured:
		return "not measured"
	}
	return fmt.Sprintf("Binding(%d)", uint8(b))
}

// Event is one entry of a log. Slices alias the parsed bytes where the format
// allows.
type Event struct {
	Register int    // number within the log's family: RTMR 0 to 3, or PCR
	Type     Type   // as claimed by the log
	Digest   []byte // in the log's algorithm; what the register was extended with
	Data     []byte
	Name     string // of a dstack runtime event; otherwise empty
	Binding  Binding
	// NameBound is set when the digest covers the name inside of a UEFI
	// variable, too: EV_EFI_VARIABLE_BOOT measures its value only.
	NameBound bool
}

// Log is a parsed log in one algorithm.
type Log struct {
	Registers Registers
	Algorithm crypto.Hash
	Events    []Event

	locality byte // of the TPM's startup: the first value of PCR 0
}

// Replay extends zero registers with the events of the logs in order, and
// returns every register that an event extended, by number. The logs must be
// about the same registers in the same algorithm; a log of the runtime follows
// that of the boot. A register r becomes H(r || digest).
func Replay(logs ...*Log) (map[int][]byte, error) {
	if len(logs) == 0 || logs[0] == nil {
		return nil, errors.New("eventlog: no log to replay")
	}
	first := logs[0]
	out := map[int][]byte{}
	h := first.Algorithm.New()
	for _, l := range logs {
		if l == nil || l.Registers != first.Registers || l.Algorithm != first.Algorithm {
			return nil, errors.New("eventlog: logs of different registers or algorithms cannot be replayed together")
		}
		for _, e := range l.Events {
			if e.Binding == NotMeasured {
				continue
			}
			r := out[e.Register]
			if r == nil {
				r = make([]byte, h.Size())
				if e.Register == 0 && l.Registers == PCR {
					r[len(r)-1] = first.locality
				}
			}
			h.Reset()
			h.Write(r)
			h.Write(e.Digest)
			out[e.Register] = h.Sum(nil)
		}
	}
	return out, nil
}

// CheckDigests is the identifier of the check on all events' data. The check on
// register N has the identifier "eventlog.rtmrN" or "eventlog.pcrN".
const CheckDigests = "eventlog.digests"

const (
	clauseReplay  = "TCG PFP 1.04, 9; UEFI 2.10, 38.4.1"
	clauseDigests = "TCG PFP 1.04, 9.4"
)

// Verify replays the logs and compares the result with the registers of a
// verified quote, by number; then it checks that no event's data contradicts
// its digest. A given register that no event extended must be zero. A register
// that events extended but that was not given is skipped: nothing vouches for
// those events.
func Verify(registers map[int][]byte, logs ...*Log) ([]check.Check, error) {
	replayed, err := Replay(logs...)
	if err != nil {
		return nil, err
	}
	family, size := logs[0].Registers, logs[0].Algorithm.Size()
	numbers := []int{}
	for n := range replayed {
		numbers = append(numbers, n)
	}
	for n, v := range registers {
		if len(v) != size {
			return nil, fmt.Errorf("eventlog: %v %d has %d bytes, want %d", family, n, len(v), size)
		}
		if _, extended := replayed[n]; !extended {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var checks []check.Check
	for _, n := range numbers {
		c := check.Check{ID: fmt.Sprintf("eventlog.%v%d", family, n), Status: check.Fail, Clause: clauseReplay}
		seen, extended := replayed[n]
		if !extended {
			seen = make([]byte, size)
		}
		want, given := registers[n]
		c.Seen, c.Wanted = hex.EncodeToString(seen), hex.EncodeToString(want)
		switch {
		case !given:
			c.Status, c.Detail = check.Skip, "no value of the register was given to compare with"
		case bytes.Equal(seen, want):
			c.Status = check.Pass
		case !extended:
			c.Detail = "the register was extended, and the log does not say with what"
		default:
			c.Detail = "the log does not lead to the register: events are missing, added, changed or out of order"
		}
		checks = append(checks, c)
	}
	return append(checks, checkDigests(logs)), nil
}

func checkDigests(logs []*Log) check.Check {
	c := check.Check{ID: CheckDigests, Status: check.Fail, Clause: clauseDigests, Wanted: "0 contradicted"}
	var count [4]int
	var bad []string
	for i, l := range logs {
		for j, e := range l.Events {
			count[e.Binding]++
			if e.Binding == Contradicted && len(bad) < 4 {
				bad = append(bad, fmt.Sprintf("log %d event %d (%v in %v %d)", i, j, e.Type, l.Registers, e.Register))
			}
		}
	}
	c.Seen = fmt.Sprintf("%d contradicted, %d bound, %d unbound, %d not measured", count[Contradicted], count[Bound], count[Unbound], count[NotMeasured])
	if count[Contradicted] != 0 {
		c.Detail = "data is not what was measured: " + strings.Join(bad, ", ")
	} else {
		c.Status = check.Pass
	}
	return c
}

// Runtime returns the payload of the dstack runtime event with that name. The
// payload is believable once [Verify] has passed for RTMR 3. An event that
// appears more than once is an error: whoever can extend the register later
// could add a second one.
func (l *Log) Runtime(name string) ([]byte, error) {
	var found *Event
	for i, e := range l.Events {
		if e.Type != EventDstackRuntime || e.Register != 3 || e.Name != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("eventlog: runtime event %q appears more than once", name)
		}
		found = &l.Events[i]
	}
	switch {
	case found == nil:
		return nil, fmt.Errorf("eventlog: no runtime event %q", name)
	case found.Binding != Bound:
		return nil, fmt.Errorf("eventlog: payload of runtime event %q is %v", name, found.Binding)
	}
	return found.Data, nil
}
