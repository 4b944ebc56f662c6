package attestation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/internal/le"
	"github.com/bombyx-network/bombyx/attestation/internal/strictjson"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// dstackDocument is what dstack's guest agent answers to a request for a quote.
type dstackDocument struct {
	Quote      string  `json:"quote"`
	EventLog   string  `json:"event_log"`
	ReportData *string `json:"report_data,optional"`
	VMConfig   *string `json:"vm_config,optional"`
	Algorithm  *string `json:"hash_algorithm,optional"`
	Prefix     *string `json:"prefix,optional"`

	Attestation *string `json:"attestation,optional"` // in place of quote and log where there is no TDX
}

// dstackEvidence is what any form of dstack's document says.
type dstackEvidence struct {
	quote *dcap.Quote   // TDX; nil otherwise
	log   *eventlog.Log // TDX

	report       []byte // SEV-SNP
	certificates []byte // as far as the document has them, concatenated
	config       []byte // the document of which HOST_DATA is the digest

	payload *string // of which the report data is the digest; nil when the document shows none
}

const (
	clauseDstack      = "dstack guest agent, GetQuote"
	clauseDstackSCALE = "dstack guest agent, Attest, version 0"
)

// dstackDomain separates the digest of a configuration document, version 3.
const dstackDomain = "dstack-mr-config-v3:\x00"

// CheckHostData is the identifier of the check that an SEV-SNP report's HOST_DATA is the digest of the configuration shown.
const CheckHostData = "foreign.host_data"

func parseDstack(raw []byte) (*dstackEvidence, error) {
	switch {
	case isDstackSCALE(raw):
		return parseDstackSCALE(raw)
	case isDstack(raw):
		return parseDstackV1(raw)
	}
	var d dstackDocument
	if err := strictjson.Unmarshal(raw, &d, MaxEvidence); err != nil {
		return nil, err
	}
	if d.Attestation != nil && *d.Attestation != "" {
		return nil, errors.New("a quote and an attestation in one document, want one of them")
	}
	quote, err := hex.DecodeString(d.Quote)
	if err != nil {
		return nil, errors.New("quote: not hexadecimal")
	}
	e := new(dstackEvidence)
	if e.log, err = eventlog.ParseDstack([]byte(d.EventLog)); err != nil {
		return nil, err
	}
	e.quote, err = dcap.ParseQuote(quote)
	return e, err
}

// Variants of an attestation in dstack's SCALE form. There are others: TDX on Google's cloud and AWS Nitro, each with a TPM or an
// attester that this package knows nothing of.
const (
	dstackTDX = 0
	dstackSNP = 3
)

// isDstackSCALE recognises version 0 by its first bytes: version, variant, and the length and beginning of a quote or report.
func isDstackSCALE(b []byte) bool {
	if len(b) < 2 || b[0] != 0 {
		return false
	}
	r := le.Reader{Format: "dstack", Bytes: b, Off: 2}
	evidence := scaleBytes(&r, "quote")
	switch b[1] {
	case dstackTDX:
		return bareKind(evidence) == KindTDXQuote
	case dstackSNP:
		return bareKind(evidence) == KindSNPReport
	}
	return false
}

// dstackAttestation returns what the guest agent's answer to Attest, or to GetQuote without TDX, holds in hexadecimal; nil when data is
// no such answer.
func dstackAttestation(data []byte) []byte {
	var d struct {
		Attestation string  `json:"attestation"`
		Quote       *string `json:"quote,optional"`
		EventLog    *string `json:"event_log,optional"`
		ReportData  *string `json:"report_data,optional"`
		VMConfig    *string `json:"vm_config,optional"`
	}
	if strictjson.Unmarshal(data, &d, MaxInput) != nil || d.Quote != nil && *d.Quote != "" || d.EventLog != nil && *d.EventLog != "" {
		return nil
	}
	raw, err := hex.DecodeString(d.Attestation)
	if err != nil {
		return nil
	}
	return raw
}

// parseDstackSCALE reads an attestation of version 0 as dstack's guest agent gives it out, in Parity's SCALE encoding: integers of fixed
// width in little endian, every sequence behind its length in the compact form.
func parseDstackSCALE(b []byte) (*dstackEvidence, error) {
	r := &le.Reader{Format: "dstack", Bytes: b, Off: 2}
	e := new(dstackEvidence)
	evidence := scaleBytes(r, "quote")
	var events []eventlog.DstackEvent
	if b[1] == dstackTDX {
		n := scaleLength(r, "event log")
		if n > eventlog.MaxEvents {
			return nil, fmt.Errorf("more than %d events", eventlog.MaxEvents)
		}
		for i := 0; i < n && r.Err == nil; i++ {
			events = append(events, eventlog.DstackEvent{IMR: r.Uint32("register"), Type: r.Uint32("event type"),
				Digest: scaleBytes(r, "digest"), Name: string(scaleBytes(r, "event name")), Payload: scaleBytes(r, "event payload"),
				Version: eventlog.DstackVersion1})
		}
	} else {
		for i := scaleLength(r, "certificates"); i > 0 && r.Err == nil; i-- {
			e.certificates = append(e.certificates, scaleBytes(r, "certificate")...)
		}
		e.config = scaleBytes(r, "configuration")
		e.report = evidence
	}
	// What follows repeats what the hardware binds, or is bound by nothing.
	for i := scaleLength(r, "runtime events"); i > 0 && r.Err == nil; i-- {
		scaleBytes(r, "event name")
		scaleBytes(r, "event payload")
	}
	r.Next(64, "report data")
	scaleBytes(r, "machine configuration")
	switch {
	case r.Err != nil:
		return nil, r.Err
	case r.Off != len(b):
		return nil, fmt.Errorf("%d bytes behind the document", len(b)-r.Off)
	case b[1] == dstackSNP:
		if len(e.certificates) > MaxCertificates {
			return nil, fmt.Errorf("certificates of %d bytes, limit %d", len(e.certificates), MaxCertificates)
		}
		_, err := snp.ParseReport(e.report)
		return e, err
	}
	var err error
	if e.log, err = eventlog.NewDstack(events); err != nil {
		return nil, err
	}
	e.quote, err = dcap.ParseQuote(evidence)
	return e, err
}

// scaleLength reads a length in the compact form, and no further than there can be that many elements of a byte or more.
func scaleLength(r *le.Reader, what string) int {
	first := r.Next(1, what+"'s length")
	if first == nil {
		return 0
	}
	width := []int{1, 2, 4, 0}[first[0]&3]
	if width == 0 {
		r.Err = fmt.Errorf("%s: the %s has a length above 1 GiB", r.Format, what)
		return 0
	}
	n := uint64(first[0])
	for i, b := range r.Next(width-1, what+"'s length") {
		n |= uint64(b) << (8 * (i + 1))
	}
	n >>= 2
	if r.Err == nil && (n > uint64(len(r.Bytes)-r.Off) || width > 1 && n < 1<<[]int{0, 0, 6, 0, 14}[width]) {
		r.Err = fmt.Errorf("%s: the %s has the length %d in %d bytes, with %d left", r.Format, what, n, width, len(r.Bytes)-r.Off)
	}
	if r.Err != nil {
		return 0
	}
	return int(n)
}

func scaleBytes(r *le.Reader, what string) []byte { return r.Next(scaleLength(r, what), what) }

// dstack appraises a document of dstack's in any of its forms.
func (a *appraisal) dstack(raw, reportData []byte) {
	clause := clauseDstack
	switch {
	case isDstackSCALE(raw):
		clause = clauseDstackSCALE
	case isDstack(raw):
		clause = clauseDstackV1
	}
	e, err := parseDstack(raw)
	switch {
	case err != nil:
		a.fail(CheckParse, clause, err)
	case e.quote != nil:
		a.pass(CheckParse, clause, fmt.Sprintf("%d events", len(e.log.Events)))
		a.logged(e.quote, e.log, reportData)
		a.payload(e, e.quote.ReportData())
	default:
		a.pass(CheckParse, clause, fmt.Sprintf("configuration of %d bytes", len(e.config)))
		a.snp(e.report, e.certificates, reportData)
		a.judge(CheckMode, a.v.policy.Devices.JudgeMode(string(ModeCPU), 0, 0))
		a.unstated(true, elsewhere)
		if r, err := snp.ParseReport(e.report); err == nil {
			a.hostData(r, e.config)
			a.payload(e, r.ReportData)
		}
	}
}

// hostData compares the configuration shown with what the hypervisor had the hardware bind at launch.
func (a *appraisal) hostData(r *snp.Report, shown []byte) {
	want := sha256.Sum256(append([]byte(dstackDomain), shown...))
	c := check.Check{ID: CheckHostData, Clause: "dstack, MrConfigV3", Status: check.Pass, Seen: hex.EncodeToString(r.HostData[:]), Wanted: hex.EncodeToString(want[:])}
	if r.HostData != want {
		c.Status, c.Detail = check.Fail, "the configuration shown is not the one that the guest was launched with"
	}
	a.add(c)
	if c.Status != check.Pass {
		return
	}
	var config map[string]json.RawMessage
	if json.Unmarshal(shown, &config) != nil {
		return
	}
	for _, name := range []string{"app_id", "compose_hash", "instance_id", "key_provider", "key_provider_id"} {
		var s string
		if json.Unmarshal(config[name], &s) == nil && s != "" {
			a.res.Claims["dstack."+strings.ReplaceAll(name, "_", "-")] = s
		}
	}
}

// logged appraises a quote and the event log that explains its registers. The document may repeat the report data; only the quote's
// own is believed.
func (a *appraisal) logged(q *dcap.Quote, log *eventlog.Log, reportData []byte) {
	a.intel(q, dcap.TEETDX, reportData)
	a.judge(CheckMode, a.v.policy.Devices.JudgeMode(string(ModeCPU), 0, 0))
	a.unstated(true, elsewhere)
	a.replayed(q, log)
}

// replayed compares a quote's registers with what the log leads to.
func (a *appraisal) replayed(q *dcap.Quote, log *eventlog.Log) {
	if q.TD == nil {
		return
	}
	registers := map[int][]byte{}
	for i := range q.TD.RTMR {
		registers[i] = q.TD.RTMR[i][:]
	}
	checks, err := eventlog.Verify(registers, log)
	if err != nil {
		a.fail(eventlog.CheckDigests, "TCG PFP 1.04, 9.4", err)
		return
	}
	for _, c := range checks {
		if c.Title = titles[c.ID]; c.Title == "" {
			c.Title = "event log explains " + strings.TrimPrefix(c.ID, "eventlog.")
		}
		a.add(c)
	}
	for _, name := range []string{"app-id", "compose-hash", "instance-id", "os-image-hash", "key-provider"} {
		if payload, err := log.Runtime(name); err == nil {
			a.res.Claims["dstack."+name] = fmt.Sprintf("%x", payload)
		}
	}
}
