package eventlog

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
)

// dstackEvent is one member of dstack's JSON array.
type dstackEvent struct {
	IMR     uint32 `json:"imr"` // RTMR 0 to 3
	Type    uint32 `json:"event_type"`
	Digest  string `json:"digest"` // hexadecimal; may be empty for a runtime event
	Name    string `json:"event"`
	Payload string `json:"event_payload"` // hexadecimal

	Version  *int    `json:"version,optional"`
	Preimage *string `json:"preimage,optional"` // hexadecimal
}

// isDstack tells a JSON array of events by its first one.
func isDstack(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) == 0 || b[0] != '[' {
		return false
	}
	var first struct {
		IMR  *uint32 `json:"imr"`
		Type *uint32 `json:"event_type"`
	}
	d := json.NewDecoder(bytes.NewReader(b[1:]))
	return d.Decode(&first) == nil && first.IMR != nil && first.Type != nil
}

// ParseDstack parses dstack's JSON event log: an array of objects with the
// members imr, event_type, digest, event and event_payload, and perhaps version
// and preimage. Runtime events may come without a digest, which their content
// defines. Events of the boot may come without their payload: they are then
// [Unbound].
func ParseDstack(b []byte) (*Log, error) {
	var events []dstackEvent
	if err := strictjson.Unmarshal(b, &events, MaxSize); err != nil {
		return nil, fmt.Errorf("eventlog: dstack log: %w", err)
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
		raw[i] = DstackEvent{IMR: x.IMR, Type: x.Type, Digest: digest, Name: x.Name, Payload: payload, Version: DstackVersion1, Preimage: x.Preimage}
		if x.Version != nil {
			raw[i].Version = *x.Version
		}
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

	// Version says of what a runtime event's digest is; a boot event's is version 1.
	Version int
	// Preimage is what the document says that a runtime event's digest is of, in hexadecimal; nil when it says nothing.
	Preimage *string
}

// Versions of dstack's runtime events. The digest is the SHA-384 of
//
//	1: type LE || ":" || name || ":" || payload
//	2: {"name":name,"payload":hexadecimal,"type":134217729}, canonical JSON (RFC 8785)
const (
	DstackVersion1 = 1
	DstackVersion2 = 2
)

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
	switch {
	case e.Type == EventDstackRuntime:
		message, err := x.message()
		if err != nil {
			return e, err
		}
		want := digest(crypto.SHA384, message)
		if len(e.Digest) == 0 {
			e.Digest = want
		}
		e.bindTo(want)
	case x.Version != DstackVersion1 || x.Preimage != nil:
		return e, errors.New("a version or preimage, which only runtime events have")
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

// message is what the digest of a runtime event is of.
func (x *DstackEvent) message() ([]byte, error) {
	var m []byte
	switch x.Version {
	case DstackVersion1:
		if strings.Contains(x.Name, ":") {
			// "a" with the payload "b:c" and "a:b" with "c" have one digest.
			return nil, fmt.Errorf("name %.64q of a runtime event holds a colon", x.Name)
		}
		m = dstackMessage(x.Name, x.Payload)
	case DstackVersion2:
		if !utf8.ValidString(x.Name) {
			return nil, errors.New("name of a runtime event is not UTF-8")
		}
		m = dstackMessage2(x.Name, x.Payload)
	default:
		return nil, fmt.Errorf("runtime event of version %d, want 1 or 2", x.Version)
	}
	if x.Preimage != nil && *x.Preimage != hex.EncodeToString(m) {
		return nil, errors.New("preimage is not that of the event shown")
	}
	return m, nil
}

// dstackMessage is what the digest of a runtime event of version 1 is of.
func dstackMessage(name string, payload []byte) []byte {
	m := binary.LittleEndian.AppendUint32(nil, uint32(EventDstackRuntime))
	m = append(m, ':')
	m = append(m, name...)
	m = append(m, ':')
	return append(m, payload...)
}

// dstackMessage2 is the same for version 2.
func dstackMessage2(name string, payload []byte) []byte {
	m := make([]byte, 0, len(name)+hex.EncodedLen(len(payload))+64)
	m = append(m, `{"name":"`...)
	for i := range len(name) {
		// RFC 8785, 3.2.2.2: nothing is escaped but what must be.
		switch c := name[i]; {
		case c == '"' || c == '\\':
			m = append(m, '\\', c)
		case strings.IndexByte("\b\t\n\f\r", c) >= 0:
			m = append(m, '\\', "btn?fr"[c-'\b'])
		case c < ' ':
			m = fmt.Appendf(m, `\u%04x`, c)
		default:
			m = append(m, c)
		}
	}
	m = hex.AppendEncode(append(m, `","payload":"`...), payload)
	return fmt.Appendf(m, `","type":%d}`, EventDstackRuntime)
}
