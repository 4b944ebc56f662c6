package eventlog

import (
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
)

// dstackEvent is one member of dstack's JSON array.
type dstackEvent struct {
	IMR     uint32 `json:"imr"` // RTMR 0 to 3
	Type    uint32 `json:"event_type"`
	Digest  string `json:"digest"` // hexadecimal; may be empty for a runtime event
	Name    string `json:"event"`
	Payload string `json:"event_payload"` // hexadecimal
}

// ParseDstack parses dstack's JSON event log: an array of objects with exactly
// the members imr, event_type, digest, event and event_payload. Runtime events
// may come without a digest, which their content defines. Events of the boot
// may come without their payload: they are then [Unbound].
func ParseDstack(b []byte) (*Log, error) {
	var events []dstackEvent
	if err := strictjson.Unmarshal(b, &events, MaxSize); err != nil {
		return nil, fmt.Errorf("eventlog: dstack log: %w", err)
	}
	if len(events) > MaxEvents {
		return nil, fmt.Errorf("eventlog: more than %d events", MaxEvents)
	}
	raw := make([]DstackEvent, len(events))
	for i, x := range events {
		payload, err := hex.DecodeString(x.Payload)
		if err != nil {
			return nil, fmt.Errorf("eventlog: event %d: payload: %w", i, err)
		}
		digest, err := hex.DecodeString(x.Digest)
		if err != nil {
			return nil, fmt.Errorf("eventlog: event %d: digest: %w", i, err)
		}
		raw[i] = DstackEvent{x.IMR, x.Type, digest, x.Name, payload}
	}
	return NewDstack(raw)
}

// A DstackEvent is one event of dstack's, in whatever encoding it came.
type DstackEvent struct {
	IMR     uint32 // RTMR 0 to 3
	Type    uint32
	Digest  []byte // SHA-384; may be empty for a runtime event
	Name    string
	Payload []byte
}

// NewDstack makes a log of events under the rules of ParseDstack.
func NewDstack(events []DstackEvent) (*Log, error) {
	if len(events) > MaxEvents {
		return nil, fmt.Errorf("eventlog: more than %d events", MaxEvents)
	}
	l := &Log{Registers: RTMR, Algorithm: crypto.SHA384}
	for i, x := range events {
		e, err := x.event()
		if err != nil {
			return nil, fmt.Errorf("eventlog: event %d: %w", i, err)
		}
		l.Events = append(l.Events, e)
	}
	return l, nil
}

func (x *DstackEvent) event() (e Event, err error) {
	if x.IMR > 3 {
		return e, fmt.Errorf("register %d, want RTMR 0 to 3", x.IMR)
	}
	e.Register, e.Type, e.Name, e.Data, e.Digest = int(x.IMR), Type(x.Type), x.Name, x.Payload, x.Digest
	runtime := e.Type == EventDstackRuntime
	switch {
	case runtime && strings.Contains(e.Name, ":"):
		// "a" with the payload "b:c" and "a:b" with "c" have one digest.
		return e, fmt.Errorf("name %q of a runtime event holds a colon", e.Name)
	case runtime:
		want := digest(crypto.SHA384, dstackMessage(e.Name, e.Data))
		if len(e.Digest) == 0 {
			e.Digest = want
		}
		e.bindTo(want)
	case len(e.Data) == 0 && e.Type != EventNoAction:
		e.Binding = Unbound // dstack strips the data of boot events
	default:
		e.bind(crypto.SHA384)
	}
	if len(e.Digest) != crypto.SHA384.Size() {
		return e, fmt.Errorf("digest of %d bytes, want %d", len(e.Digest), crypto.SHA384.Size())
	}
	return e, nil
}

// dstackMessage is what a runtime event is the digest of.
func dstackMessage(name string, payload []byte) []byte {
	m := binary.LittleEndian.AppendUint32(nil, uint32(EventDstackRuntime))
	m = append(m, ':')
	m = append(m, name...)
	m = append(m, ':')
	return append(m, payload...)
}
