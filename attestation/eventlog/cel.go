package eventlog

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of TLVs (TCG CEL 1.0, 5.1). CCMR is Google's register of a
// confidential VM, numbered as in a CCEL.
const (
	celRecordNumber = 0
	celPCR          = 1
	celDigests      = 3
	celPCClient     = 5 // content: an event of the PC Client profile
	celCCMR         = 108
)

// ParseCEL parses a canonical event log in TLV encoding (TCG CEL 1.0) and keeps
// the digests of one algorithm. Its records count from zero without a gap, and
// are all about the same family of registers. The digest of a record is that of
// its content's TLV, except for PC Client content, whose event type decides.
func ParseCEL(b []byte, alg crypto.Hash) (*Log, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("eventlog: log of %d bytes, the most is %d", len(b), MaxSize)
	}
	if len(b) == 0 {
		return nil, errors.New("eventlog: the log is empty")
	}
	l := &Log{Algorithm: alg}
	for rest := b; len(rest) > 0; {
		if len(l.Events) == MaxEvents {
			return nil, fmt.Errorf("eventlog: more than %d events", MaxEvents)
		}
		var err error
		if rest, err = l.parseRecord(rest); err != nil {
			return nil, fmt.Errorf("eventlog: record %d: %w", len(l.Events), err)
		}
	}
	return l, nil
}

// tlv is one type, big-endian 32-bit length, value.
type tlv struct {
	typ   byte
	value []byte
	raw   []byte
}

func readTLV(b []byte) (t tlv, rest []byte, err error) {
	const head = 1 + 4
	if len(b) < head {
		return t, nil, errors.New("truncated")
	}
	n := binary.BigEndian.Uint32(b[1:])
	if uint64(n) > uint64(len(b)-head) {
		return t, nil, fmt.Errorf("truncated: %d bytes wanted, %d left", n, len(b)-head)
	}
	end := head + int(n)
	return tlv{b[0], b[head:end:end], b[:end:end]}, b[end:], nil
}

func (l *Log) parseRecord(b []byte) (rest []byte, err error) {
	var number, register, digests, content tlv
	rest = b
	for _, t := range []*tlv{&number, &register, &digests, &content} {
		if *t, rest, err = readTLV(rest); err != nil {
			return nil, err
		}
	}
	if number.typ != celRecordNumber || len(number.value) != 8 || binary.BigEndian.Uint64(number.value) != uint64(len(l.Events)) {
		return nil, fmt.Errorf("record number %x, want %d in 8 bytes", number.value, len(l.Events))
	}
	if len(register.value) != 1 {
		return nil, fmt.Errorf("register index of %d bytes, want 1", len(register.value))
	}
	e := Event{Register: int(register.value[0]), Type: EventCELContent, Data: content.raw}
	var family Registers
	switch {
	case register.typ == celPCR && e.Register <= maxRegister:
		family = PCR
	case register.typ == celCCMR && 1 <= e.Register && e.Register <= 4:
		family = RTMR
		e.Register--
	default:
		return nil, fmt.Errorf("register %d of kind %d is neither a PCR nor an RTMR", e.Register, register.typ)
	}
	if l.Registers != 0 && l.Registers != family {
		return nil, errors.New("a log about both PCRs and RTMRs")
	}
	l.Registers = family
	if digests.typ != celDigests {
		return nil, fmt.Errorf("field of type %d, want digests", digests.typ)
	}
	seen := map[byte]bool{}
	for list := digests.value; len(list) > 0; {
		var d tlv
		if d, list, err = readTLV(list); err != nil {
			return nil, err
		}
		if seen[d.typ] || digestSizes[uint16(d.typ)] != len(d.value) || len(d.value) == 0 {
			return nil, fmt.Errorf("digest of algorithm %#02x with %d bytes is unknown or appears twice", d.typ, len(d.value))
		}
		seen[d.typ] = true
		if algorithms[uint16(d.typ)] == l.Algorithm {
			e.Digest = d.value
		}
	}
	if e.Digest == nil {
		return nil, fmt.Errorf("no %v digest", l.Algorithm)
	}
	if content.typ == celPCClient {
		if err := e.pcClient(content.value); err != nil {
			return nil, err
		}
	}
	e.bind(l.Algorithm)
	l.Events = append(l.Events, e)
	return rest, nil
}

// pcClient reads PC Client content: event type, then event data (TCG CEL 1.0,
// 5.1.5).
func (e *Event) pcClient(b []byte) error {
	typ, rest, err := readTLV(b)
	if err != nil {
		return err
	}
	data, rest, err := readTLV(rest)
	if err != nil {
		return err
	}
	if typ.typ != 0 || len(typ.value) != 4 || data.typ != 1 || len(rest) != 0 {
		return errors.New("malformed PC Client content")
	}
	e.Type, e.Data = Type(binary.BigEndian.Uint32(typ.value)), data.value
	return nil
}
