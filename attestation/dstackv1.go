package attestation

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/internal/msgpack"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

const clauseDstackV1 = "dstack guest agent, Attest, version 1"

// CheckPayload is the identifier of the check that the report data is the digest of the payload that a document shows beside it.
const CheckPayload = "foreign.payload"

// dstackV1Head is what every version above 0 begins with: a map of three members, and the name of the first.
var dstackV1Head = []byte("\x83\xa7version")

// isDstack recognises what dstack's guest agent answers to Attest, in version 0 or 1.
func isDstack(b []byte) bool { return bytes.HasPrefix(b, dstackV1Head) || isDstackSCALE(b) }

// parseDstackV1 reads an attestation of version 1 as dstack's guest agent gives it out, in MessagePack: maps with the names of their
// members in the order of its structures, quotes and reports as arrays of integers, and the content of events as bytes.
func parseDstackV1(b []byte) (*dstackEvidence, error) {
	r := &msgpack.Reader{Format: "dstack", Bytes: b}
	r.Members(3, "document")
	r.Key("version")
	if v := r.Uint(math.MaxUint64, "version"); r.Err == nil && v != 1 {
		return nil, fmt.Errorf("document of version %d, want 1", v)
	}
	r.Key("platform")
	e := new(dstackEvidence)
	var quote []byte
	var events []eventlog.DstackEvent
	switch kind := variant(r, "platform"); {
	case r.Err != nil:
		return nil, r.Err
	case kind == "tdx":
		r.Members(2, "platform")
		r.Key("quote")
		quote = r.Octets("quote")
		r.Key("event_log")
		n := r.Array("event log")
		if n > eventlog.MaxEvents {
			return nil, fmt.Errorf("more than %d events", eventlog.MaxEvents)
		}
		for i := 0; i < n && r.Err == nil; i++ {
			events = append(events, dstackV1Event(r))
		}
	case kind == "sev-snp":
		r.Members(3, "platform")
		r.Key("report")
		e.report = r.Octets("report")
		r.Key("cert_chain")
		for i := r.Array("certificates"); i > 0 && r.Err == nil; i-- {
			e.certificates = append(e.certificates, r.Octets("certificate")...)
		}
		r.Key("mr_config")
		e.config = []byte(r.String("configuration"))
	default:
		return nil, fmt.Errorf("platform %.64q, want tdx or sev-snp", kind)
	}
	r.Key("stack")
	switch kind := variant(r, "stack"); {
	case r.Err != nil:
		return nil, r.Err
	case kind == "dstack":
		r.Members(3, "stack")
	case kind == "dstack-pod":
		r.Members(4, "stack")
		e.payload = new(string)
	default:
		return nil, fmt.Errorf("stack %.64q, want dstack or dstack-pod", kind)
	}
	// What follows repeats what the hardware binds, or is bound by nothing, but for the payload.
	r.Key("report_data")
	if data := r.Octets("report data"); r.Err == nil && len(data) != 64 {
		return nil, fmt.Errorf("report data of %d bytes, want 64", len(data))
	}
	r.Key("runtime_events")
	for i := r.Array("runtime events"); i > 0 && r.Err == nil; i-- {
		n := r.Map("runtime event")
		r.Key("event")
		r.String("event name")
		r.Key("payload")
		r.Bin("event payload")
		if n == 3 {
			r.Key("version")
			r.Uint(math.MaxUint32, "event version")
		} else if r.Err == nil && n != 2 {
			return nil, fmt.Errorf("runtime event of %d members, want 2 or 3", n)
		}
	}
	r.Key("config")
	r.String("machine configuration")
	if e.payload != nil {
		r.Key("report_data_payload")
		*e.payload = r.String("report data's payload")
	}
	if err := r.End(); err != nil {
		return nil, err
	}
	if len(e.certificates) > MaxCertificates {
		return nil, fmt.Errorf("certificates of %d bytes, limit %d", len(e.certificates), MaxCertificates)
	}
	var err error
	if quote == nil {
		_, err = snp.ParseReport(e.report)
		return e, err
	}
	if e.log, err = eventlog.NewDstack(events); err != nil {
		return nil, err
	}
	e.quote, err = dcap.ParseQuote(quote)
	return e, err
}

// variant reads the head of a map of a variant's name and what it holds.
func variant(r *msgpack.Reader, what string) string {
	r.Members(2, what)
	r.Key("kind")
	kind := r.String("kind of " + what)
	r.Key("data")
	return kind
}

// dstackV1Event reads one event of the log. Its last two members may be absent, as they are in version 1 of events.
func dstackV1Event(r *msgpack.Reader) eventlog.DstackEvent {
	n := r.Map("event")
	e := eventlog.DstackEvent{Version: eventlog.DstackVersion1}
	r.Key("imr")
	e.IMR = uint32(r.Uint(math.MaxUint32, "register"))
	r.Key("event_type")
	e.Type = uint32(r.Uint(math.MaxUint32, "event type"))
	r.Key("digest")
	e.Digest = r.Bin("digest")
	r.Key("event")
	e.Name = r.String("event name")
	r.Key("event_payload")
	e.Payload = r.Bin("event payload")
	for ; n > 5 && r.Err == nil; n-- {
		switch name := r.String("name of a member"); {
		case name == "version" && e.Version == eventlog.DstackVersion1 && e.Preimage == nil:
			e.Version = int(r.Uint(math.MaxInt32, "event version"))
			if e.Version == eventlog.DstackVersion1 {
				r.Err = errors.New("dstack: an event states version 1, which is left out")
			}
		case name == "preimage" && e.Preimage == nil:
			preimage := r.String("preimage")
			e.Preimage = &preimage
		case r.Err == nil:
			r.Err = fmt.Errorf("dstack: unexpected member %.64q of an event", name)
		}
	}
	if r.Err == nil && n != 5 {
		r.Err = fmt.Errorf("dstack: event of %d members, want 5 to 7", n)
	}
	return e
}

// payload compares the report data with the digest of the payload shown.
func (a *appraisal) payload(e *dstackEvidence, reportData [64]byte) {
	if e.payload == nil {
		return
	}
	want := sha512.Sum512([]byte("app-data:" + *e.payload))
	c := check.Check{ID: CheckPayload, Clause: clauseDstackV1, Status: check.Pass, Seen: hex.EncodeToString(reportData[:]), Wanted: hex.EncodeToString(want[:])}
	if reportData != want {
		c.Status, c.Detail = check.Fail, "the payload shown is not the one that the report data is the digest of"
	} else {
		a.res.Claims["dstack.payload"] = *e.payload
	}
	a.add(c)
}
