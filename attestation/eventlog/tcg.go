package eventlog

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/bombyx-network/bombyx/attestation/internal/le"
)

// TPM algorithm ids (TCG Algorithm Registry 1.34).
var algorithms = map[uint16]crypto.Hash{0x0004: crypto.SHA1, 0x000B: crypto.SHA256, 0x000C: crypto.SHA384, 0x000D: crypto.SHA512}

// digestSizes also knows algorithms that cannot be replayed here.
var digestSizes = map[uint16]int{0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32, 0x0027: 32, 0x0028: 48, 0x0029: 64}

// maxRegister bounds PCR numbers.
const maxRegister = 23

// Recognise tells whether b begins as a log that Parse reads.
func Recognise(b []byte) bool { return isTCG(b) || isDstack(b) }

func isTCG(b []byte) bool {
	const signatureAt = 4 + 4 + 20 + 4 // register, type, digest, size
	return len(b) > signatureAt && Type(binary.LittleEndian.Uint32(b[4:])) == EventNoAction && bytes.HasPrefix(b[signatureAt:], []byte("Spec ID Event03\x00"))
}

// Parse parses a log that it recognises by its contents: the data of a CCEL, whose first event is in register 1; a TPM's log, whose
// first event is in PCR 0, in the strongest algorithm that it has; or dstack's JSON. A log in CEL has no mark: see ParseCEL.
func Parse(b []byte) (*Log, error) {
	switch {
	case isDstack(b):
		return ParseDstack(b)
	case !isTCG(b):
		return nil, errors.New("eventlog: not a log that this program knows: want the data of a CCEL, a crypto-agile TPM log, or dstack's JSON")
	case binary.LittleEndian.Uint32(b) != 0:
		return ParseCCEL(b)
	}
	var l *Log
	var err error
	for _, alg := range []crypto.Hash{crypto.SHA384, crypto.SHA256} {
		if l, err = ParseTCG(b, alg); err == nil {
			break
		}
	}
	return l, err
}

// ParseCCEL parses the data area of the CCEL ACPI table of a TDX guest: a
// crypto-agile log in SHA-384 whose register index i stands for RTMR i-1, with
// padding of one byte value, 0x00 or 0xFF, after its last event. Index 0 is
// MRTD, which no event can extend.
func ParseCCEL(b []byte) (*Log, error) {
	l := &Log{Registers: RTMR, Algorithm: crypto.SHA384}
	if err := l.parse(b); err != nil {
		return nil, err
	}
	return l, nil
}

// ParseTCG parses a TPM event log in the crypto-agile format and keeps the
// digests of one algorithm. The SHA-1 format before it is refused.
func ParseTCG(b []byte, alg crypto.Hash) (*Log, error) {
	l := &Log{Registers: PCR, Algorithm: alg}
	if err := l.parse(b); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) parse(b []byte) error {
	if len(b) > MaxSize {
		return fmt.Errorf("eventlog: log of %d bytes, the most is %d", len(b), MaxSize)
	}
	in := newReader(b)
	// The first event is in the old format, and says what the others look like.
	first := in.Next(4+4+20, "first event")
	spec := in.sized("first event")
	if in.Err != nil {
		return in.Err
	}
	if Type(binary.LittleEndian.Uint32(first[4:])) != EventNoAction || !zero(first[8:]) {
		return fmt.Errorf("eventlog: the first event is not an unmeasured EV_NO_ACTION")
	}
	sizes, err := parseSpecID(spec)
	if err != nil {
		return err
	}
	var want uint16
	for id := range sizes {
		if algorithms[id] == l.Algorithm {
			want = id
		}
	}
	if want == 0 {
		return fmt.Errorf("eventlog: the log has no %v digests", l.Algorithm)
	}
	for !in.padding() {
		if len(l.Events) == MaxEvents {
			return fmt.Errorf("eventlog: more than %d events", MaxEvents)
		}
		e, err := l.parseEvent(&in, sizes, want)
		if err != nil {
			return fmt.Errorf("eventlog: event %d: %w", len(l.Events)+1, err)
		}
		l.Events = append(l.Events, e)
	}
	return nil
}

// parseSpecID reads TCG_EfiSpecIDEvent (TCG PFP 1.04, 9.4.5.1) and returns the
// digest size of each algorithm.
func parseSpecID(b []byte) (map[uint16]int, error) {
	in := newReader(b)
	signature := in.Next(16, "Spec ID event")
	in.Next(4+1+1+1+1, "Spec ID event") // platform class, version, size of UINTN
	n := in.Uint32("number of algorithms")
	if in.Err != nil {
		return nil, in.Err
	}
	if !bytes.Equal(signature, []byte("Spec ID Event03\x00")) {
		return nil, fmt.Errorf("eventlog: not a crypto-agile log: it begins with %q, want \"Spec ID Event03\"", signature)
	}
	if n == 0 || n > 8 {
		return nil, fmt.Errorf("eventlog: %d algorithms, want 1 to 8", n)
	}
	sizes := map[uint16]int{}
	for range n {
		id, size := uint16(in.Uint16("algorithm")), in.Uint16("digest size")
		if in.Err != nil {
			return nil, in.Err
		}
		if _, twice := sizes[id]; twice || size != digestSizes[id] {
			return nil, fmt.Errorf("eventlog: algorithm %#04x with digests of %d bytes is unknown or appears twice", id, size)
		}
		sizes[id] = size
	}
	vendor := in.Next(1, "size of vendor information")
	if in.Err == nil {
		in.Next(int(vendor[0]), "vendor information")
	}
	if in.Err != nil {
		return nil, in.Err
	}
	if in.Off != len(b) {
		return nil, fmt.Errorf("eventlog: %d bytes behind the Spec ID event", len(b)-in.Off)
	}
	return sizes, nil
}

// parseEvent reads TCG_PCR_EVENT2 (TCG PFP 1.04, 9.2.2).
func (l *Log) parseEvent(in *reader, sizes map[uint16]int, want uint16) (e Event, err error) {
	index := in.Uint32("register index")
	e.Type = Type(in.Uint32("event type"))
	n := in.Uint32("number of digests")
	if in.Err != nil {
		return e, in.Err
	}
	if n != uint32(len(sizes)) {
		return e, fmt.Errorf("%d digests, want one for each of %d algorithms", n, len(sizes))
	}
	seen := map[uint16]bool{}
	for range n {
		id := uint16(in.Uint16("algorithm"))
		if in.Err != nil {
			return e, in.Err
		}
		if sizes[id] == 0 || seen[id] {
			return e, fmt.Errorf("digest of algorithm %#04x is not announced or appears twice", id)
		}
		seen[id] = true
		if d := in.Next(sizes[id], "digest"); id == want {
			e.Digest = d
		}
	}
	e.Data = in.sized("event data")
	if in.Err != nil {
		return e, in.Err
	}
	measured := e.Type != EventNoAction
	switch l.Registers {
	case RTMR:
		if index > 4 || index == 0 && measured {
			return e, fmt.Errorf("register index %d, want 1 to 4 for RTMR 0 to 3", index)
		}
		e.Register = max(0, int(index)-1)
	default:
		if index > maxRegister {
			return e, fmt.Errorf("register index %d, want 0 to %d", index, maxRegister)
		}
		e.Register = int(index)
	}
	e.bind(l.Algorithm)
	return e, l.startup(&e)
}

// startup notes the locality from which the TPM was started (TCG PFP 1.04,
// 9.4.5.3), which is the first value of PCR 0.
func (l *Log) startup(e *Event) error {
	if l.Registers != PCR || e.Register != 0 {
		return nil
	}
	if locality, ok := bytes.CutPrefix(e.Data, []byte("StartupLocality\x00")); ok && e.Type == EventNoAction {
		if len(locality) != 1 || locality[0] != 0 && locality[0] != 3 && locality[0] != 4 || l.extended(0) || l.locality != 0 {
			return fmt.Errorf("startup locality %x is unknown, or not the first thing said of PCR 0", locality)
		}
		l.locality = locality[0]
	}
	if e.Type == EventEFIHCRTM && !l.extended(0) {
		l.locality = 4
	}
	return nil
}

func (l *Log) extended(register int) bool {
	for _, e := range l.Events {
		if e.Register == register && e.Binding != NotMeasured {
			return true
		}
	}
	return false
}

// reader reads an event log.
type reader struct{ le.Reader }

func newReader(b []byte) reader { return reader{le.Reader{Format: "eventlog", Bytes: b}} }

// sized returns the bytes behind a 32-bit length.
func (r *reader) sized(what string) []byte {
	return r.Next(int(r.Uint32("size of the "+what)), what) // negative where an int has 32 bits and the size does not fit
}

// padding says whether nothing but one repeated 0x00 or 0xFF follows.
func (r *reader) padding() bool {
	rest := r.Bytes[r.Off:]
	if len(rest) == 0 {
		return true
	}
	return (rest[0] == 0 || rest[0] == 0xFF) && !slices.ContainsFunc(rest, func(b byte) bool { return b != rest[0] })
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
