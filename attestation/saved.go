package attestation

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// MaxInput is the longest saved Evidence that Recognise looks at, in bytes: a composite document in hexadecimal.
const MaxInput = 2 * MaxEvidence

// Recognise says what kind of Evidence a file holds and returns it raw. It takes raw bytes, hexadecimal, standard base64 and
// PEM, and judges by the contents alone. Documents of other networks are taken as they are.
func Recognise(data []byte) (Kind, []byte, error) {
	if len(data) > MaxInput {
		return "", nil, fmt.Errorf("attestation: %d bytes, more than any evidence (limit %d)", len(data), MaxInput)
	}
	if k := kindOf(data); k != "" {
		return k, data, nil
	}
	if k := foreignKind(data); k != "" {
		return k, data, nil
	}
	if _, document, ok := SplitEpoch(data); ok {
		return KindEvidence, document, nil
	}
	if raw := dstackAttestation(data); isDstack(raw) {
		return KindDstack, raw, nil
	}
	text := bytes.TrimSpace(data)
	if block, rest := pem.Decode(text); block != nil && len(bytes.TrimSpace(rest)) == 0 {
		if k := kindOf(block.Bytes); k != "" {
			return k, block.Bytes, nil
		}
	}
	// Line breaks are common in both encodings of files.
	text = bytes.Join(bytes.Fields(text), nil)
	if raw, err := hex.DecodeString(string(bytes.TrimPrefix(text, []byte("0x")))); err == nil {
		if k := kindOf(raw); k != "" {
			return k, raw, nil
		}
	}
	if raw, err := base64.StdEncoding.DecodeString(string(text)); err == nil {
		if k := kindOf(raw); k != "" {
			return k, raw, nil
		}
	}
	return "", nil, errors.New("attestation: not evidence that this program knows: want a composite document, of this or another network, a TDX or SGX quote, " +
		"an EGo or Open Enclave report or certificate, an SEV-SNP report, an NVIDIA report or a list of them; raw, hexadecimal, base64 or PEM")
}

// kindOf judges by the first bytes alone; the parsers say the rest.
func kindOf(b []byte) Kind {
	switch {
	case isComposite(b):
		return KindEvidence
	case isDstack(b):
		return KindDstack
	case isOECertificate(b):
		return KindOECertificate
	}
	if k := bareKind(b); k != "" {
		return k
	}
	if isOEReport(b) {
		return KindOEReport
	}
	return ""
}

// bareKind is kindOf for a quote or report by itself.
func bareKind(b []byte) Kind {
	switch {
	case len(b) >= 48 && b[1] == 0 && b[0] >= 3 && b[0] <= 5 && binary.LittleEndian.Uint16(b[2:]) == 2:
		switch dcap.TEEType(binary.LittleEndian.Uint32(b[4:])) {
		case dcap.TEETDX:
			return KindTDXQuote
		case dcap.TEESGX:
			return KindSGXQuote
		}
		if b[0] == 3 { // version 3 has no TEE type there
			return KindSGXQuote
		}
	case len(b) == snp.ReportSize && binary.LittleEndian.Uint32(b) >= 2 && binary.LittleEndian.Uint32(b) <= 5:
		return KindSNPReport
	case len(b) > nvidia.RequestSize && b[0] == nvidia.SPDMVersion && b[1] == nvidia.CodeGetMeasurements:
		if r, err := nvidia.ParseReport(b); err == nil && r.Kind == nvidia.KindSwitch {
			return KindSwitchReport
		}
		return KindGPUReport
	}
	return ""
}

// isComposite tells a composite document from other JSON; ParseEvidence says the rest.
func isComposite(b []byte) bool {
	var members map[string]json.RawMessage
	return len(b) <= MaxEvidence && bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) && json.Unmarshal(b, &members) == nil &&
		members["keyset"] != nil && members["cpu"] != nil
}

// Expected is what the caller knows about saved Evidence. What it leaves nil is not compared; the Result then shows those
// checks as skipped, and proves neither freshness nor what the Evidence was made for.
type Expected struct {
	// Nonce is the 32-byte nonce of a composite document, Tinfoil's included, of a GPU or switch report, or of a list of them, or the
	// one that a MarbleRun Coordinator was asked with.
	Nonce []byte
	// Epoch is, in place of a nonce, the block that a composite document answers, with its Time. The caller has proven it, or knows
	// it. Without it a file that states its epoch (SplitEpoch) lacks collateral: the proof of its block.
	Epoch *Epoch
	// ReportData is the 64 bytes that a bare quote, an SEV-SNP report or dstack's document must carry; of an Open Enclave report up
	// to 64, for EGo pads with zeros what its caller gives.
	ReportData []byte
	// Certificates is the chain of a bare GPU, switch or SEV-SNP report, leaf first, in PEM or DER.
	Certificates []byte
	// EventLog is the log that explains the RTMRs of a bare TDX quote; nil when there is none.
	EventLog *eventlog.Log
}

// states says what of Expected a kind of Evidence can be compared with.
var states = map[Kind]struct{ nonce, reportData bool }{
	KindEvidence: {nonce: true}, KindTinfoil: {nonce: true}, KindNVIDIAList: {nonce: true}, KindGPUReport: {nonce: true}, KindSwitchReport: {nonce: true},
	KindTDXQuote: {reportData: true}, KindSGXQuote: {reportData: true}, KindSNPReport: {reportData: true}, KindDstack: {reportData: true},
	KindOEReport: {reportData: true}, KindMarbleRun: {nonce: true},
}

// AppraiseSaved appraises a file that Recognise understands: a composite document or a bare quote or report. It is for
// auditors; clients that are about to send something use Appraise, which demands a nonce. The error says that the input or
// what was expected of it makes no sense; the Evidence's own faults are in the Result.
func (v *Verifier) AppraiseSaved(now time.Time, data []byte, want Expected) (*Result, error) {
	kind, raw := KindEvidence, data
	composite, err := ParseEvidence(data) // several times as fast as recognising it
	if err != nil {
		if kind, raw, err = Recognise(data); err != nil {
			return nil, err
		}
	}
	if n := len(want.Nonce); n != 0 && n != 32 {
		return nil, fmt.Errorf("attestation: nonce of %d bytes, want 32", n)
	}
	switch n := len(want.ReportData); {
	case kind == KindOEReport && n > 64:
		return nil, fmt.Errorf("attestation: report data of %d bytes, want at most 64", n)
	case kind != KindOEReport && n != 0 && n != 64:
		return nil, fmt.Errorf("attestation: report data of %d bytes, want 64: only that of an Open Enclave report is padded", n)
	}
	var stated *Epoch
	if epoch, _, ok := SplitEpoch(data); ok && composite == nil {
		stated = &epoch
	}
	switch log := want.EventLog; {
	case log == nil:
	case kind != KindTDXQuote:
		return nil, fmt.Errorf("attestation: an event log is given, and %s has no registers of its own for it", kind)
	case log.Registers != eventlog.RTMR:
		return nil, errors.New("attestation: the event log is that of a TPM's PCRs, and a TDX quote has RTMRs")
	}
	switch stated := states[kind]; {
	case want.Epoch != nil && kind != KindEvidence:
		return nil, fmt.Errorf("attestation: an epoch is expected, and %s states no nonce to compare with", kind)
	case want.Epoch != nil && want.Nonce != nil:
		return nil, errors.New("attestation: both a nonce and an epoch are expected: evidence answers one of them")
	case want.Nonce != nil && !stated.nonce:
		return nil, fmt.Errorf("attestation: a nonce is expected, and %s states none of its own", kind)
	case want.ReportData != nil && !stated.reportData:
		return nil, fmt.Errorf("attestation: report data is expected, and that of %s follows from what is in it", kind)
	}
	switch kind {
	case KindEvidence:
		if composite == nil { // in another encoding, or malformed
			composite, err = ParseEvidence(raw)
		}
		nonce, epoch := want.Nonce, want.Epoch
		if epoch == nil && nonce == nil {
			epoch = stated
		}
		if epoch != nil {
			n := epoch.Nonce()
			nonce = n[:]
		}
		return v.appraise(now, raw, composite, err, nonce, epoch, want.Epoch != nil), nil
	case KindTDXQuote, KindSGXQuote:
		a := v.begin(now, kind, raw)
		defer a.res.finish()
		q, err := dcap.ParseQuote(raw)
		if err != nil {
			a.fail(dcap.CheckParse, clauseQuote, err)
			return a.res, nil
		}
		a.intel(q, q.TEEType, want.ReportData)
		if want.EventLog != nil {
			a.replayed(q, want.EventLog)
		}
		a.bare()
		return a.res, nil
	case KindSNPReport:
		a := v.begin(now, kind, raw)
		defer a.res.finish()
		a.snp(raw, want.Certificates, want.ReportData)
		a.bare()
		return a.res, nil
	case KindGPUReport, KindSwitchReport:
		return v.appraiseReport(now, kind, raw, want), nil
	}
	return v.appraiseForeign(now, kind, raw, want), nil
}

// bare shows which of the policy's demands a bare quote or report says nothing about. They are not required: who appraises one asks
// about the CPU alone.
func (a *appraisal) bare() {
	const why = "the policy demands it; the quote or report alone does not state it"
	if f := a.v.policy.Devices.JudgeMode(string(ModeCPU), 0, 0); f.Err != nil {
		a.append(check.Check{ID: CheckMode, Clause: clausePolicy, Status: check.Skip, Wanted: f.Wanted, Detail: why})
	}
	a.unstated(false, why)
}

// unstated shows which workloads the policy lists by digest, and the Evidence says nothing about. The verdict needs them if they are
// required.
func (a *appraisal) unstated(required bool, why string) {
	w := a.v.policy.Workload
	for _, c := range []struct {
		id   string
		rule policy.Allowed
	}{{CheckBuild, w.Builds}, {CheckConfig, w.Configs}, {CheckModel, w.Models}} {
		if !c.rule.AnyUnsafe {
			a.append(check.Check{ID: c.id, Clause: clausePolicy, Status: check.Skip, Required: required, Detail: why})
		}
	}
}

// appraiseReport appraises one bare GPU or switch report.
func (v *Verifier) appraiseReport(now time.Time, kind Kind, raw []byte, want Expected) *Result {
	a := v.begin(now, kind, raw)
	defer a.res.finish()
	rules := &v.policy.Devices
	if v.nvidia == nil || kind == KindGPUReport && rules.GPU == nil || kind == KindSwitchReport && rules.Switch == nil {
		a.fail(CheckMode, clausePolicy, fmt.Errorf("the policy %q has no rules for an %s", v.policy.Name, kind))
		return a.res
	}
	r := v.nvidia.Verify(nvidia.Evidence{Report: raw, Chain: want.Certificates}, nvidia.Options{Nonce: want.Nonce, Time: now, Collateral: v.gpu})
	if kind == KindGPUReport {
		a.gpu("", r)
	} else {
		a.nvswitch("", r)
	}
	if want.Nonce == nil {
		// Nobody said which nonce: what is not asked is not required.
		for i := range a.res.Checks {
			if c := &a.res.Checks[i]; c.ID == nvidia.CheckNonce && c.Status == check.Skip {
				c.Required = false
			}
		}
	}
	return a.res
}
