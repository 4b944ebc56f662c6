package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

// What documents in MessagePack are made of: maps of names and values in turn, arrays, numbers as integers, strings, bytes, and bytes
// as an array of integers.
type (
	members []any
	array   []any
	octets  []byte
)

// messagePack encodes as rmp-serde does.
func messagePack(v any) []byte {
	head := func(n, fixed, fix, wide16, wide32 int) []byte {
		switch {
		case n < fixed:
			return []byte{byte(fix | n)}
		case n < 1<<16:
			return binary.BigEndian.AppendUint16([]byte{byte(wide16)}, uint16(n))
		}
		return binary.BigEndian.AppendUint32([]byte{byte(wide32)}, uint32(n))
	}
	switch v := v.(type) {
	case int:
		switch {
		case v < 128:
			return []byte{byte(v)}
		case v < 256:
			return []byte{0xcc, byte(v)}
		case v < 1<<16:
			return binary.BigEndian.AppendUint16([]byte{0xcd}, uint16(v))
		}
		return binary.BigEndian.AppendUint32([]byte{0xce}, uint32(v))
	case string:
		if len(v) >= 32 && len(v) < 256 {
			return append([]byte{0xd9, byte(len(v))}, v...)
		}
		return append(head(len(v), 32, 0xa0, 0xda, 0xdb), v...)
	case []byte:
		if len(v) < 256 {
			return append([]byte{0xc4, byte(len(v))}, v...)
		}
		return append(head(len(v), 0, 0, 0xc5, 0xc6), v...)
	case octets:
		b := head(len(v), 16, 0x90, 0xdc, 0xdd)
		for _, o := range v {
			b = append(b, messagePack(int(o))...)
		}
		return b
	case array:
		b := head(len(v), 16, 0x90, 0xdc, 0xdd)
		for _, e := range v {
			b = append(b, messagePack(e)...)
		}
		return b
	case members:
		b := head(len(v)/2, 16, 0x80, 0xde, 0xdf)
		for _, e := range v {
			b = append(b, messagePack(e)...)
		}
		return b
	}
	panic(v)
}

func dstackV1(platform string, data any, stack string, more ...any) []byte {
	return messagePack(members{"version", 1, "platform", members{"kind", platform, "data", data},
		"stack", members{"kind", stack, "data", append(members{"report_data", octets(make([]byte, 64)), "runtime_events",
			array{members{"event", "app-id", "payload", []byte{1, 200}}, members{"event", "x", "payload", []byte{}, "version", 2}}, "config", "{}"}, more...)}})
}

// The encoding is the one that rmp-serde gives structures of that shape: these three were made with its version 1.1.1.
func TestMessagePackIsRMP(t *testing.T) {
	nine := octets(bytes.Repeat([]byte{9}, 20))
	for want, v := range map[string]any{
		"83a776657273696f6e01a8706c6174666f726d82a46b696e64a3746478a46461746182a571756f746594007fcc80ccffa96576656e745f6c6f679385a3696d7200aa6576656e745f74797065ce80000008a6646967657374c402aaaaa56576656e74a0ad6576656e745f7061796c6f6164c40085a3696d7203aa6576656e745f74797065ce08000001a6646967657374c400a56576656e74a66170702d6964ad6576656e745f7061796c6f6164c40201c887a3696d7203aa6576656e745f74797065ce08000001a6646967657374c402bbbba56576656e74ac636f6d706f73652d68617368ad6576656e745f7061796c6f6164c4020707a776657273696f6e02a8707265696d616765a437623764a5737461636b82a46b696e64a664737461636ba46461746183ab7265706f72745f64617461dc00140909090909090909090909090909090909090909ae72756e74696d655f6576656e74739282a56576656e74a66170702d6964a77061796c6f6164c40201c883a56576656e74a178a77061796c6f6164c400a776657273696f6e02a6636f6e666967a27b7d": members{
			"version", 1, "platform", members{"kind", "tdx", "data", members{"quote", octets{0, 127, 128, 255}, "event_log", array{
				members{"imr", 0, "event_type", 0x80000008, "digest", []byte{0xaa, 0xaa}, "event", "", "event_payload", []byte{}},
				members{"imr", 3, "event_type", 0x08000001, "digest", []byte{}, "event", "app-id", "event_payload", []byte{1, 200}},
				members{"imr", 3, "event_type", 0x08000001, "digest", []byte{0xbb, 0xbb}, "event", "compose-hash", "event_payload", []byte{7, 7}, "version", 2, "preimage", "7b7d"},
			}}}, "stack", members{"kind", "dstack", "data", members{"report_data", nine, "runtime_events", array{
				members{"event", "app-id", "payload", []byte{1, 200}}, members{"event", "x", "payload", []byte{}, "version", 2}}, "config", "{}"}}},
		"83a776657273696f6e01a8706c6174666f726d82a46b696e64a77365762d736e70a46461746183a67265706f727493ccc8ccc8ccc8aa636572745f636861696e92910190a96d725f636f6e666967d92863636363636363636363636363636363636363636363636363636363636363636363636363636363a5737461636b82a46b696e64aa64737461636b2d706f64a46461746184ab7265706f72745f64617461dc00140909090909090909090909090909090909090909ae72756e74696d655f6576656e747390a6636f6e666967a27b7db37265706f72745f646174615f7061796c6f6164a170": members{
			"version", 1, "platform", members{"kind", "sev-snp", "data", members{"report", octets{200, 200, 200}, "cert_chain", array{octets{1}, octets{}}, "mr_config", strings.Repeat("c", 40)}},
			"stack", members{"kind", "dstack-pod", "data", members{"report_data", nine, "runtime_events", array{}, "config", "{}", "report_data_payload", "p"}}},
	} {
		if got := hex.EncodeToString(messagePack(v)); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
}

// dstackV1Events makes an event log, half of it of version 2, and the registers that it leads to; change is made to it afterwards.
func dstackV1Events(t testing.TB, change func(events []members)) (array, *[4][48]byte) {
	t.Helper()
	log, registers := dstackEvents(t, nil)
	var events []struct {
		IMR     int    `json:"imr"`
		Type    int    `json:"event_type"`
		Digest  string `json:"digest"`
		Name    string `json:"event"`
		Payload string `json:"event_payload"`
	}
	if err := json.Unmarshal(log, &events); err != nil {
		t.Fatal(err)
	}
	var all []members
	for _, e := range events {
		digest, _ := hex.DecodeString(e.Digest)
		payload, _ := hex.DecodeString(e.Payload)
		all = append(all, members{"imr", e.IMR, "event_type", e.Type, "digest", digest, "event", e.Name, "event_payload", payload})
	}
	message := `{"name":"gpu-policy-hash","payload":"0102","type":134217729}`
	digest := sha512.Sum384([]byte(message))
	all = append(all, members{"imr", 3, "event_type", int(eventlog.EventDstackRuntime), "digest", digest[:], "event", "gpu-policy-hash", "event_payload", []byte{1, 2},
		"version", 2, "preimage", hex.EncodeToString([]byte(message))})
	registers[3] = sha512.Sum384(append(registers[3][:], digest[:]...))
	if change != nil {
		change(all)
	}
	var a array
	for _, e := range all {
		a = append(a, e)
	}
	return a, registers
}

// dstackV1TDX makes a version 1 attestation of a mock TD.
func dstackV1TDX(t testing.TB, c attestationtest.NodeConfig, change func(events []members), stack string, more ...any) []byte {
	t.Helper()
	events, registers := dstackV1Events(t, change)
	c.RTMR = registers
	quote := node(t, c).Quote(sha512.Sum512([]byte("app-data:shown")))
	return dstackV1("tdx", members{"quote", octets(quote), "event_log", events}, stack, more...)
}

func dstackV1SNP(t testing.TB, shown string) []byte {
	t.Helper()
	const config = `{"app_id":"aa","compose_hash":"bb","key_provider":"kms","version":3}`
	if shown == "" {
		shown = config
	}
	n := node(t, attestationtest.NodeConfig{SNP: true, HostData: sha256.Sum256([]byte("dstack-mr-config-v3:\x00" + config))})
	e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{SNP: true}))
	if err != nil {
		t.Fatal(err)
	}
	report := n.SNPReport(sha512.Sum512([]byte("app-data:shown")))
	return dstackV1("sev-snp", members{"report", octets(report), "cert_chain", array{octets(e.CPU.Certificates)}, "mr_config", shown}, "dstack-pod", "report_data_payload", "shown")
}

func TestMockDstackV1(t *testing.T) {
	either := func(p *policy.Policy) { anyRegisters(p); anyHostData(p) }
	none := attestationtest.NodeConfig{}
	good, snp := dstackV1TDX(t, none, nil, "dstack"), dstackV1SNP(t, "")
	for name, c := range map[string]struct {
		data  []byte
		claim [2]string // and its value, if it is always the same
	}{
		"TDX":                     {good, [2]string{"dstack.app-id", ""}},
		"TDX pod":                 {dstackV1TDX(t, none, nil, "dstack-pod", "report_data_payload", "shown"), [2]string{"dstack.payload", "shown"}},
		"SEV-SNP pod":             {snp, [2]string{"dstack.compose-hash", "bb"}},
		"as the agent answers":    {[]byte(`{"attestation":"` + hex.EncodeToString(good) + `"}`), [2]string{"dstack.app-id", ""}},
		"as GetQuote without TDX": {[]byte(`{"quote":"","event_log":"","report_data":"00","vm_config":"{}","attestation":"` + hex.EncodeToString(snp) + `"}`), [2]string{"dstack.payload", "shown"}},
		"in hexadecimal":          {[]byte(hex.EncodeToString(good) + "\n"), [2]string{"dstack.app-id", ""}},
		"without digests": {dstackV1TDX(t, none, func(e []members) {
			for i := range e[3:] {
				e[3+i][5] = []byte{}
			}
		}, "dstack"), [2]string{"dstack.app-id", ""}},
	} {
		r := appraiseSaved(t, c.data, attestation.Expected{}, either)
		got := r.Claims[c.claim[0]]
		if err := r.Err(); err != nil || r.Kind != attestation.KindDstack || got == "" || c.claim[1] != "" && got != c.claim[1] {
			t.Errorf("%s: %v %s %v", name, err, r.Kind, r.Claims)
		}
	}

	event := func(i, at int, value any) func([]members) { return func(e []members) { e[i][at] = value } }
	tdx := func(change func([]members)) []byte { return dstackV1TDX(t, none, change, "dstack") }
	replace := func(old, with string) []byte {
		if bytes.Count(good, []byte(old)) == 0 {
			t.Fatalf("%q is not in the document", old)
		}
		return bytes.Replace(good, []byte(old), []byte(with), 1)
	}
	parse := []string{"composite.parse"}
	for _, c := range []struct {
		name string
		data []byte
		want []string
	}{
		{"payload of version 1 exchanged", tdx(event(3, 9, []byte{0})), []string{"eventlog.digests"}},
		{"boot event exchanged", tdx(event(1, 5, make([]byte, 48))), []string{"eventlog.rtmr1"}},
		{"debug", dstackV1TDX(t, attestationtest.NodeConfig{Debug: true}, nil, "dstack"), []string{"policy.debug"}},
		{"another payload", dstackV1TDX(t, none, nil, "dstack-pod", "report_data_payload", "other"), []string{"foreign.payload"}},
		{"configuration exchanged", dstackV1SNP(t, `{"app_id":"cc"}`), []string{"foreign.host_data"}},
		{"name of version 2 exchanged", tdx(event(5, 7, "another")), parse}, // its preimage is not the event's
		{"payload of version 2 exchanged", tdx(event(5, 9, []byte{0})), parse},
		{"version 2 without its preimage, exchanged", tdx(func(e []members) { e[5] = slices.Clone(e[5][:12]); e[5][9] = []byte{0} }), []string{"eventlog.digests"}},
		{"an event of version 3", tdx(event(5, 11, 3)), parse},
		{"an event that says version 1", tdx(func(e []members) { e[3] = append(e[3], "version", 1) }), parse},
		{"version twice", tdx(func(e []members) { e[5][12], e[5][13] = "version", 2 }), parse},
		{"preimage before version", tdx(func(e []members) { e[5] = append(slices.Clone(e[5][:10]), "preimage", e[5][13], "version", 2) }), parse},
		{"preimage of a boot event", tdx(func(e []members) { e[0] = append(e[0], "preimage", "00") }), parse},
		{"unknown member of an event", tdx(func(e []members) { e[0] = append(e[0], "x", 1) }), parse},
		{"unknown member of an event, where its version would be", tdx(func(e []members) { e[0] = append(e[0], "x", 2) }), parse},
		{"unknown member of an event, where its preimage would be", tdx(func(e []members) { e[5] = slices.Clone(e[5]); e[5][12] = "x" }), parse},
		{"preimage twice", tdx(func(e []members) { e[5] = slices.Clone(e[5]); e[5][10], e[5][11] = "preimage", e[5][13] }), parse},
		{"a member too few", tdx(func(e []members) { e[0] = e[0][:8] }), parse},
		{"members in another order", tdx(func(e []members) {
			e[0] = members{"event_type", 4, "imr", 0, "digest", []byte{}, "event", "", "event_payload", []byte{}}
		}), parse},
		{"register 4", tdx(event(0, 1, 4)), parse},
		{"digest in hexadecimal", tdx(event(0, 5, strings.Repeat("00", 48))), parse},
		{"payload as integers", tdx(event(3, 9, octets{1})), parse},
		{"version 2", replace("version\x01", "version\x02"), parse},
		{"version in two bytes", replace("version\x01", "version\xcc\x01"), parse},
		{"Google's cloud", dstackV1("gcp-tdx", members{}, "dstack"), parse},
		{"Nitro", dstackV1("nitro-enclave", members{"nsm_quote", octets{1}}, "dstack"), parse},
		{"another stack", dstackV1TDX(t, none, nil, "other"), parse},
		{"a pod without its payload", dstackV1TDX(t, none, nil, "dstack-pod"), parse},
		{"a payload without a pod", dstackV1TDX(t, none, nil, "dstack", "report_data_payload", "shown"), parse},
		{"quote as bytes", dstackV1("tdx", members{"quote", []byte{4, 0}, "event_log", array{}}, "dstack"), parse},
		{"no quote", dstackV1("tdx", members{"quote", octets{}, "event_log", array{}}, "dstack"), parse},
		{"no report", dstackV1("sev-snp", members{"report", octets{}, "cert_chain", array{}, "mr_config", ""}, "dstack"), parse},
		{"large certificates", dstackV1("sev-snp", members{"report", octets{}, "cert_chain", array{octets(make([]byte, attestation.MaxCertificates+1))}, "mr_config", ""}, "dstack"), parse},
		{"too many events", dstackV1("tdx", members{"quote", octets{}, "event_log", slices.Repeat(array{0}, eventlog.MaxEvents+1)}, "dstack"), parse},
		{"short report data", replace("report_data\xdc\x00\x40"+strings.Repeat("\x00", 64), "report_data\x90"), parse},
		{"runtime event of one member", replace("runtime_events\x92\x82", "runtime_events\x92\x81"), parse},
		{"bytes behind it", append(bytes.Clone(good), 0), parse},
		{"truncated", good[:len(good)-1], parse},
		{"truncated within the quote", good[:2000], parse},
		{"truncated within the log", good[:bytes.Index(good, []byte("compose-hash"))], parse},
	} {
		r := appraiseSaved(t, c.data, attestation.Expected{}, either)
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: refused by %q, want %q\n%v", c.name, got, c.want, r.Err())
		}
	}
	if kind, _, err := attestation.Recognise(append([]byte{0x84}, good[1:]...)); err == nil {
		t.Errorf("a map of four members was taken for %s", kind)
	}
	// Both a quote and an attestation.
	r := appraiseSaved(t, []byte(`{"quote":"00","event_log":"[]","attestation":"00"}`), attestation.Expected{}, either)
	if got := failing(r); !slices.Equal(got, parse) || !strings.Contains(r.Err().Error(), "one of them") {
		t.Errorf("quote and attestation: %v", r.Err())
	}
}

// Taking a document apart allocates a small multiple of it, whatever it claims.
func TestDstackAllocation(t *testing.T) {
	many := make(array, eventlog.MaxEvents)
	for i := range many {
		many[i] = members{"imr", 0, "event_type", 0, "digest", []byte{}, "event", "", "event_payload", []byte{}}
	}
	for name, b := range map[string][]byte{
		"good":       dstackV1TDX(t, attestationtest.NodeConfig{}, nil, "dstack"),
		"large":      dstackV1("tdx", members{"quote", octets(make([]byte, 1<<20)), "event_log", array{}}, "dstack"),
		"many":       dstackV1("tdx", members{"quote", octets{}, "event_log", many}, "dstack"),
		"huge array": []byte("\x83\xa7version\x01\xa8platform\x82\xa4kind\xa3tdx\xa4data\x82\xa5quote\xdd\xff\xff\xff\xff"),
		"huge log":   append(dstackTDX(t, attestationtest.NodeConfig{}, nil)[:2+2+5006:7000], bytes.Repeat([]byte{0xfe, 0xff, 0xff, 0xff}, 100)...),
		"SCALE":      dstackTDX(t, attestationtest.NodeConfig{}, nil),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		attestation.TakeApart(b, nil)
		runtime.ReadMemStats(&after)
		n := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d bytes, %.1f times that", name, len(b), float64(n)/float64(len(b)))
		if n > 16*uint64(len(b))+64<<10 {
			t.Errorf("%s: %d bytes allocated for %d", name, n, len(b))
		}
	}
}

// The two binary forms of dstack's documents; FuzzAppraiseSaved has all kinds.
func FuzzDstackSCALE(f *testing.F) {
	f.Add(dstackTDX(f, attestationtest.NodeConfig{}, nil)[2:])
	f.Add(dstackSNP(f, "")[2:])
	fuzzDstack(f, "\x00\x00", "\x00\x03")
}

func FuzzDstackV1(f *testing.F) {
	const head = "\x83\xa7version"
	f.Add(dstackV1TDX(f, attestationtest.NodeConfig{}, nil, "dstack")[len(head):])
	f.Add(dstackV1TDX(f, attestationtest.NodeConfig{}, nil, "dstack-pod", "report_data_payload", "shown")[len(head):])
	f.Add(dstackV1SNP(f, "")[len(head):])
	fuzzDstack(f, head)
}

// fuzzDstack puts each head before the input, so that it is recognised.
func fuzzDstack(f *testing.F, heads ...string) {
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, head := range heads {
			p, err := attestation.TakeApart([]byte(head+string(in)), nil)
			if err != nil {
				continue
			}
			if p.Kind != attestation.KindDstack || len(p.CPU.Quote) == 0 || len(p.Devices) != 0 {
				t.Fatalf("%+v", p)
			}
			if p.CPU.Kind == attestation.CPUTDX && len(p.CPU.Certificates) != 0 || len(p.CPU.Certificates) > attestation.MaxCertificates {
				t.Fatalf("certificates of %d bytes", len(p.CPU.Certificates))
			}
		}
	})
}
