package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

// A scale writes Parity's SCALE encoding.
type scale struct{ bytes.Buffer }

func (s *scale) length(n int) *scale {
	switch {
	case n < 1<<6:
		s.WriteByte(byte(n << 2))
	case n < 1<<14:
		s.Write(binary.LittleEndian.AppendUint16(nil, uint16(n<<2|1)))
	default:
		s.Write(binary.LittleEndian.AppendUint32(nil, uint32(n<<2|2)))
	}
	return s
}

func (s *scale) sequence(b []byte) *scale {
	s.length(len(b)).Write(b)
	return s
}

// dstackTail is what both variants end with.
func (s *scale) dstackTail() []byte {
	s.length(1).sequence([]byte("system-ready")).sequence(nil)
	s.Write(make([]byte, 64))
	return s.sequence([]byte(`{"image":"x"}`)).Bytes()
}

// dstackTDX makes a version 0 attestation of a mock TD, whose log is as dstackEvents says.
func dstackTDX(t testing.TB, c attestationtest.NodeConfig, change func(events []map[string]any)) []byte {
	t.Helper()
	log, registers := dstackEvents(t, change)
	c.RTMR = registers
	var events []struct {
		IMR     uint32 `json:"imr"`
		Type    uint32 `json:"event_type"`
		Digest  string `json:"digest"`
		Name    string `json:"event"`
		Payload string `json:"event_payload"`
	}
	if err := json.Unmarshal(log, &events); err != nil {
		t.Fatal(err)
	}
	s := new(scale)
	s.Write([]byte{0, 0})
	s.sequence(node(t, c).Quote([64]byte{1})).length(len(events))
	for _, e := range events {
		digest, _ := hex.DecodeString(e.Digest)
		payload, _ := hex.DecodeString(e.Payload)
		s.Write(binary.LittleEndian.AppendUint32(nil, e.IMR))
		s.Write(binary.LittleEndian.AppendUint32(nil, e.Type))
		s.sequence(digest).sequence([]byte(e.Name)).sequence(payload)
	}
	return s.dstackTail()
}

// dstackSNP makes one of a mock SEV-SNP guest that was launched with a configuration, and shows another if told so.
func dstackSNP(t testing.TB, shown string) []byte {
	t.Helper()
	const config = `{"app_id":"aa","compose_hash":"bb","key_provider":"kms","version":3}`
	if shown == "" {
		shown = config
	}
	n := node(t, attestationtest.NodeConfig{SNP: true, HostData: sha256.Sum256([]byte("dstack-mr-config-v3:\x00" + config))})
	s := new(scale)
	s.Write([]byte{0, 3})
	e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{SNP: true}))
	if err != nil {
		t.Fatal(err)
	}
	s.sequence(n.SNPReport([64]byte{1})).length(1).sequence(e.CPU.Certificates).sequence([]byte(shown))
	return s.dstackTail()
}

func anyHostData(p *policy.Policy) { p.SNP.Images[0].HostData = policy.Want32{Any: true} }

func TestMockDstackSCALE(t *testing.T) {
	good := dstackTDX(t, attestationtest.NodeConfig{}, nil)
	r := appraiseSaved(t, good, attestation.Expected{}, anyRegisters)
	if err := r.Err(); err != nil || r.Kind != attestation.KindDstack || r.Claims["dstack.compose-hash"] == "" {
		t.Fatalf("%v %s %v", err, r.Kind, r.Claims)
	}
	snp := dstackSNP(t, "")
	r = appraiseSaved(t, snp, attestation.Expected{}, anyHostData)
	if err := r.Err(); err != nil || r.Kind != attestation.KindDstack || r.Claims["dstack.compose-hash"] != "bb" {
		t.Fatalf("%v %s %v", err, r.Kind, r.Claims)
	}
	r = appraiseSaved(t, []byte(`{"attestation":"`+hex.EncodeToString(snp)+`"}`), attestation.Expected{}, anyHostData)
	if err := r.Err(); err != nil {
		t.Errorf("as the agent answers: %v", err)
	}
	for _, c := range []struct {
		name string
		data []byte
		want []string
	}{
		{"event exchanged", dstackTDX(t, attestationtest.NodeConfig{}, func(e []map[string]any) { e[3]["event_payload"] = "00" }), []string{"eventlog.digests"}},
		{"debug", dstackTDX(t, attestationtest.NodeConfig{Debug: true}, nil), []string{"policy.debug"}},
		{"configuration exchanged", dstackSNP(t, `{"app_id":"cc"}`), []string{"foreign.host_data"}},
		{"bytes behind it", append(bytes.Clone(good), 0), []string{"composite.parse"}},
		{"truncated", good[:len(good)-1], []string{"composite.parse"}},
		{"truncated within the log", good[:len(good)/2+2500], []string{"composite.parse"}},
		{"event of an unknown register", bytes.Replace(good, []byte{0, 0, 0, 0, 8, 0, 0, 0x80}, []byte{4, 0, 0, 0, 8, 0, 0, 0x80}, 1), []string{"composite.parse"}},
	} {
		r := appraiseSaved(t, c.data, attestation.Expected{}, func(p *policy.Policy) { anyRegisters(p); anyHostData(p) })
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: refused by %q, want %q\n%v", c.name, got, c.want, r.Err())
		}
		if got := r.Claims["dstack.app-id"]; c.name == "configuration exchanged" && got != "" {
			t.Errorf("%s: claims its application %q all the same", c.name, got)
		}
	}
	// What is not even recognised.
	for name, b := range map[string][]byte{
		"another version": append([]byte{1}, good[1:]...), "Nitro": append([]byte{0, 2}, good[2:]...),
		"a length in too many bytes": append([]byte{0, 3, 4*1184&0xff | 2, 4 * 1184 >> 8, 0, 0}, snp[4:]...),
		"a length of its own length": {0, 0, 3, 0, 0, 0}, "nested": bytes.Repeat([]byte{0, 0, 2, 0, 0, 1}, 100_000),
	} {
		if kind, _, err := attestation.Recognise(b); err == nil {
			t.Errorf("%s was taken for %s", name, kind)
		}
	}
}

// A document with an enclave's quote, with two answers, or with more certificates than there are.
func TestDstackRefusals(t *testing.T) {
	log, registers := dstackEvents(t, nil)
	quote := node(t, attestationtest.NodeConfig{RTMR: registers}).Quote([64]byte{})
	answer := func(quote string, more map[string]any) []byte {
		doc := map[string]any{"quote": quote, "event_log": string(log)}
		maps.Copy(doc, more)
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	long := new(scale)
	long.Write([]byte{0, 3})
	long.sequence(node(t, attestationtest.NodeConfig{SNP: true}).SNPReport([64]byte{})).length(2).sequence(make([]byte, attestation.MaxCertificates)).sequence([]byte{0}).sequence([]byte("{}"))
	for _, c := range []struct {
		name string
		data []byte
		want []string
	}{
		{"good", answer(hex.EncodeToString(quote), nil), nil},
		{"enclave", answer(hex.EncodeToString(enclaveQuote(quote)), nil), []string{"composite.cpu"}},
		{"quote that is not hexadecimal", answer("x", nil), []string{"composite.parse"}},
		{"quote that ends in something else", answer(hex.EncodeToString(quote)+"zz", nil), []string{"composite.parse"}},
		{"unknown member", answer(hex.EncodeToString(quote), map[string]any{"more": 1}), []string{"composite.parse"}},
		{"log that is none", answer(hex.EncodeToString(quote), map[string]any{"event_log": "x"}), []string{"composite.parse"}},
		{"an empty second answer", answer(hex.EncodeToString(quote), map[string]any{"attestation": ""}), nil},
		{"two answers", answer(hex.EncodeToString(quote), map[string]any{"attestation": "00"}), []string{"composite.parse"}},
		{"too many certificates", long.dstackTail(), []string{"composite.parse"}},
	} {
		r := appraiseSaved(t, c.data, attestation.Expected{}, func(p *policy.Policy) { anyRegisters(p); anyHostData(p); acceptEnclaves(p) })
		if got := failing(r); r.Kind != attestation.KindDstack || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s refused by %q, want %q\n%v", c.name, r.Kind, got, c.want, r.Err())
		}
	}
}

// Each limit is refused for itself, and what is just within it is not.
func TestDstackLimits(t *testing.T) {
	quote, report := node(t, attestationtest.NodeConfig{}).Quote([64]byte{}), node(t, attestationtest.NodeConfig{SNP: true}).SNPReport([64]byte{})
	log := func(events int) []byte { // of events without a name
		s := new(scale)
		s.Write([]byte{0, 0})
		s.sequence(quote).length(events).Write(make([]byte, 11*events))
		return s.dstackTail()
	}
	snp := func(certificates, config int) []byte {
		s := new(scale)
		s.Write([]byte{0, 3})
		s.sequence(report).length(2).sequence(make([]byte, certificates-1)).sequence([]byte{0}).sequence(make([]byte, config))
		return s.dstackTail()
	}
	snpV1 := func(certificates int) []byte {
		return dstackV1("sev-snp", members{"report", octets(report), "cert_chain", array{octets(make([]byte, certificates-1)), octets{0}}, "mr_config", ""}, "dstack")
	}
	logV1 := func(events int) []byte {
		event := members{"imr", 0, "event_type", 0, "digest", []byte{}, "event", "", "event_payload", []byte{}}
		return dstackV1("tdx", members{"quote", octets(quote), "event_log", slices.Repeat(array{event}, events)}, "dstack")
	}
	wide := func(length ...byte) []byte { // of the configuration
		s := new(scale)
		s.Write([]byte{0, 3})
		s.sequence(report).length(0).Write(length)
		s.Write(make([]byte, 1<<14))
		return s.dstackTail()
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"events":                          {log(eventlog.MaxEvents), "event 0: digest of 0 bytes"},
		"too many events":                 {log(eventlog.MaxEvents + 1), "attestation: more than 16384 events"},
		"events, version 1":               {logV1(eventlog.MaxEvents), "event 0: digest of 0 bytes"},
		"too many events, version 1":      {logV1(eventlog.MaxEvents + 1), "attestation: more than 16384 events"},
		"certificates":                    {snp(attestation.MaxCertificates, 0), ""},
		"large certificates":              {snp(attestation.MaxCertificates+1, 0), "certificates of 65537 bytes, limit 65536"},
		"certificates, version 1":         {snpV1(attestation.MaxCertificates), ""},
		"large certificates, version 1":   {snpV1(attestation.MaxCertificates + 1), "certificates of 65537 bytes, limit 65536"},
		"longest length of one byte":      {snp(2, 63), ""},
		"shortest length of two bytes":    {snp(2, 64), ""},
		"longest length of two bytes":     {snp(2, 1<<14-1), ""},
		"shortest length of four bytes":   {snp(2, 1<<14), ""},
		"a length of two bytes, of one":   {wide(63<<2&0xff|1, 0), "has the length 63 in 2 bytes"},
		"a length of four bytes, of two":  {wide(0xfe, 0xff, 0, 0), "has the length 16383 in 4 bytes"},
		"a length of more than its bytes": {wide(3, 0, 0, 0, 1), "has a length above 1 GiB"},
	} {
		_, err := attestation.TakeApart(c.data, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// The guest agent's answer is recognised when it holds an attestation alone.
func TestDstackAnswers(t *testing.T) {
	good := hex.EncodeToString(dstackTDX(t, attestationtest.NodeConfig{}, nil))
	for name, c := range map[string]struct {
		data string
		want bool
	}{
		"alone":               {`{"attestation":"` + good + `"}`, true},
		"with empty ones":     {`{"attestation":"` + good + `","quote":"","event_log":""}`, true},
		"with a quote":        {`{"attestation":"` + good + `","quote":"00"}`, false},
		"with a log":          {`{"attestation":"` + good + `","event_log":"[]"}`, false},
		"with another member": {`{"attestation":"` + good + `","more":""}`, false},
		"not hexadecimal":     {`{"attestation":"` + good + `zz"}`, false},
	} {
		if kind, _, err := attestation.Recognise([]byte(c.data)); (err == nil && kind == attestation.KindDstack) != c.want {
			t.Errorf("%s: %s, %v", name, kind, err)
		}
	}
}

// Real attestations of both kinds.
func TestRealDstackSCALE(t *testing.T) {
	p := realPolicy(t)
	p.Devices.Modes = []string{"cpu"}
	open := policy.Allowed{AnyUnsafe: true}
	p.Workload = policy.Workload{Builds: open, Configs: open, Models: open}
	v, err := attestation.NewVerifier(p, new(collateral.Bundle))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		file string
		pass []string
		hash string
	}{
		{"dstack__guest-agent__fixtures__attestation.bin", []string{"dcap.quote.signature", "eventlog.rtmr0", "eventlog.rtmr1", "eventlog.rtmr2", "eventlog.rtmr3", "eventlog.digests"}, "c143116f"},
		{"dstack__dstack-attest__tests__sev_snp_attestation.bin", []string{"foreign.host_data", "policy.debug"}, "86e59625"},
		{"dstack__verifier__fixtures__sev-snp-attestation.json", []string{"foreign.host_data", "snp.report.signature", "snp.chain"}, "86e59625"},
		// A lite log leaves out the boot events: those registers are for the verifier to calculate from the image.
		{"dstack__verifier__fixtures__tdx-lite-attestation.json", []string{"dcap.quote.signature", "eventlog.rtmr3", "eventlog.digests"}, "86b0e55f"},
	} {
		t.Run(c.file, func(t *testing.T) {
			raw := vector(t, "dstack/"+c.file)
			r, err := v.AppraiseSaved(at, raw, attestation.Expected{})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range c.pass {
				if k := r.Check(id); k == nil || k.Status != check.Pass {
					t.Errorf("%s: %+v", id, k)
				}
			}
			if got := r.Claims["dstack.compose-hash"]; r.Kind != attestation.KindDstack || !strings.HasPrefix(got, c.hash) {
				t.Errorf("%s, compose hash %q", r.Kind, got)
			}
			if _, err := v.Explain(raw, attestation.Expected{}, r); err != nil {
				t.Error(err)
			}
		})
	}
}

// A bare quote with its log beside it.
func TestQuoteWithLog(t *testing.T) {
	log, registers := dstackEvents(t, nil)
	good := node(t, attestationtest.NodeConfig{RTMR: registers}).Quote([64]byte{})
	parse := func(b []byte) *eventlog.Log {
		l, err := eventlog.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	changed, _ := dstackEvents(t, func(e []map[string]any) { e[3]["event_payload"] = "00" })
	moved, _ := dstackEvents(t, func(e []map[string]any) { e[1]["digest"] = strings.Repeat("00", 48) })
	for name, c := range map[string]struct {
		quote, log []byte
		want       []string
	}{
		"good":                  {good, log, nil},
		"an event's data":       {good, changed, []string{"eventlog.digests"}},
		"an event's digest":     {good, moved, []string{"eventlog.rtmr1"}},
		"no events":             {good, []byte(`[{"imr":0,"event_type":3,"digest":"` + strings.Repeat("00", 48) + `","event":"","event_payload":""}]`), []string{"eventlog.rtmr0", "eventlog.rtmr1", "eventlog.rtmr2", "eventlog.rtmr3"}},
		"another guest's quote": {node(t, attestationtest.NodeConfig{RTMR: new([4][48]byte)}).Quote([64]byte{}), log, []string{"eventlog.rtmr0", "eventlog.rtmr1", "eventlog.rtmr2", "eventlog.rtmr3"}},
	} {
		want := attestation.Expected{EventLog: parse(c.log)}
		r := appraiseSaved(t, c.quote, want, anyRegisters)
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: refused by %q, want %q", name, got, c.want)
		}
		if name == "good" {
			for id, title := range map[string]string{eventlog.CheckDigests: "event data agrees with its digests", "eventlog.rtmr3": "event log explains rtmr3"} {
				if c := r.Check(id); c == nil || c.Title != title {
					t.Errorf("%s: %+v", id, c)
				}
			}
		}
	}
	v := verifier(t, attestationtest.CollateralOptions{}, anyRegisters)
	if _, err := v.AppraiseSaved(now, collect(t, attestationtest.NodeConfig{}), attestation.Expected{EventLog: parse(log)}); err == nil {
		t.Error("a log for a composite document")
	}
	if _, err := v.AppraiseSaved(now, good, attestation.Expected{EventLog: &eventlog.Log{Registers: eventlog.PCR}}); err == nil {
		t.Error("a TPM's log for a TDX quote")
	}
	if _, err := v.AppraiseSaved(now, log, attestation.Expected{}); err == nil {
		t.Error("a log by itself")
	}
}
