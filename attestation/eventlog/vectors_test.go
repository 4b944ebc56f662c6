package eventlog

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/google/go-eventlog/cel"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/google/go-eventlog/testdata"
)

// vectorsDir holds real evidence captured by public projects. It is not part
// of the repository.
const vectorsDir = "../../../shared/vectors"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorsDir, name))
	if err != nil {
		t.Skipf("real evidence is not here: %v", err)
	}
	return b
}

// vectorOrNil is for fuzz targets, which run without it as well.
func vectorOrNil(name string) []byte {
	b, _ := os.ReadFile(filepath.Join(vectorsDir, name))
	return b
}

// rtmrs reads the four registers of a TDX quote, version 4, or of a TDREPORT.
func rtmrs(t testing.TB, b []byte) map[int][]byte {
	t.Helper()
	offset := 48 + 328 // quote header, then the TD report body up to RTMR 0
	if len(b) == 1024 {
		offset = 512 + 208 // TDREPORT: REPORTMACSTRUCT and TEE_TCB_INFO, then TDINFO up to RTMR 0
	}
	if len(b) < offset+4*48 {
		t.Fatalf("%d bytes are neither a quote nor a TDREPORT", len(b))
	}
	out := map[int][]byte{}
	for i := range 4 {
		out[i] = b[offset+48*i : offset+48*(i+1)]
	}
	return out
}

const (
	googleCCEL  = "google-go-tdx-guest/ccel__ccel_data.dat"
	googleQuote = "google-go-tdx-guest/ccel__cos-113-tdx-quote.dat"
	liveCCEL    = "attestation-rs/tdx_ccel_live.bin"
	liveReport  = "attestation-rs/tdx_tdreport_live.bin"
	live2CCEL   = "attestation-rs/tdx_ccel_live2.dat"
	live2Quote  = "attestation-rs/tdx_quote_live.dat"
	cocoCCEL    = "coco-trustee/CCEL_data_ovmf"
	dstackCCEL  = "dstack/dstack__cc-eventlog__samples__ccel.bin"
	dstackFull  = "dstack/dstack__verifier__fixtures__quote-report.json"
	dstackLite  = "dstack/dstack__verifier__fixtures__tdx-lite-getquote.json"
	openpccTCG  = "openpcc/tcg_eventlog.txt"
	ubuntuTCG   = "google-go-tpm-tools/internal__test__eventlogs__ubuntu-2404-amd-sevsnp.bin"
	spaceCEL    = "google-go-tpm-tools/cel.b64"
)

// Every real log is recognised for what it is.
func TestParse(t *testing.T) {
	for name, want := range map[string]Registers{googleCCEL: RTMR, liveCCEL: RTMR, live2CCEL: RTMR, cocoCCEL: RTMR, dstackCCEL: RTMR, ubuntuTCG: PCR} {
		b := vector(t, name)
		l, err := Parse(b)
		if err != nil || l.Registers != want || l.Algorithm != crypto.SHA384 || !Recognise(b) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for _, log := range []string{" \r\n\t[", "["} {
		b := []byte(log + runtimeEvent("a", "", "") + "]")
		if l, err := Parse(b); err != nil || l.Registers != RTMR || !Recognise(b) {
			t.Errorf("%q: %+v, %v", b, l, err)
		}
	}
	for _, b := range [][]byte{nil, []byte("{" + runtimeEvent("a", "", "")), []byte(`[{"imr":1,"event_type":1`), []byte(`[{"event_type":1}]`), []byte("["), []byte("[1]"), []byte("{}"), []byte(`[{"imr":1}]`), make([]byte, 100)} {
		if _, err := Parse(b); err == nil || Recognise(b) {
			t.Errorf("%q was taken for a log", b)
		}
	}
}

func count(l *Log) (n [4]int) {
	for _, e := range l.Events {
		n[e.Binding]++
	}
	return n
}

func allPass(t *testing.T, checks []check.Check) {
	t.Helper()
	for _, c := range checks {
		if c.Status != check.Pass {
			t.Errorf("%s is %v: seen %s, want %s, %s", c.ID, c.Status, c.Seen, c.Wanted, c.Detail)
		}
	}
}

// TestRealCCEL replays logs of real TDs to the registers in their quotes.
func TestRealCCEL(t *testing.T) {
	for _, x := range []struct {
		log, quote string
		secureBoot bool
		bound      int
	}{
		{googleCCEL, googleQuote, false, 31},
		{liveCCEL, liveReport, false, 12},
		{live2CCEL, live2Quote, false, 12},
	} {
		t.Run(x.log, func(t *testing.T) {
			l, err := ParseCCEL(vector(t, x.log))
			if err != nil {
				t.Fatal(err)
			}
			checks, err := Verify(rtmrs(t, vector(t, x.quote)), l)
			if err != nil {
				t.Fatal(err)
			}
			if len(checks) != 5 {
				t.Errorf("%d checks, want 5", len(checks))
			}
			allPass(t, checks)
			if on, err := l.SecureBoot(); err != nil || on != x.secureBoot {
				t.Errorf("secure boot %v, %v", on, err)
			}
			if n := count(l); n[Bound] != x.bound || n[Contradicted] != 0 {
				t.Errorf("%d bound, %d contradicted", n[Bound], n[Contradicted])
			}
		})
	}
	t.Run("logs of other machines", func(t *testing.T) {
		l, err := ParseCCEL(vector(t, liveCCEL))
		if err != nil {
			t.Fatal(err)
		}
		checks, err := Verify(rtmrs(t, vector(t, live2Quote)), l)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, c := range checks {
			got += fmt.Sprint(c.Status, " ")
		}
		if got != "PASS PASS FAIL PASS PASS " { // another kernel
			t.Error(got)
		}
	})
}

func TestRealDstack(t *testing.T) {
	for _, x := range []struct {
		file    string
		appID   string
		unbound int
	}{
		{dstackFull, "3763bc34552cf3a27ff71ad5f7a90471562a1a2d", 8},
		{dstackLite, "86b0e55f2fa8e4fb69d890f14f54d5612707646e", 20},
	} {
		t.Run(x.file, func(t *testing.T) {
			var doc struct {
				Quote    string
				EventLog string `json:"event_log"`
			}
			if err := json.Unmarshal(vector(t, x.file), &doc); err != nil {
				t.Fatal(err)
			}
			quote, err := hex.DecodeString(doc.Quote)
			if err != nil {
				t.Fatal(err)
			}
			l, err := ParseDstack([]byte(doc.EventLog))
			if err != nil {
				t.Fatal(err)
			}
			checks, err := Verify(rtmrs(t, quote), l)
			if err != nil {
				t.Fatal(err)
			}
			allPass(t, checks)
			if n := count(l); n[Unbound] != x.unbound {
				t.Errorf("%v", n)
			}
			app, err := l.Runtime("app-id")
			if err != nil || hex.EncodeToString(app) != x.appID {
				t.Errorf("app-id %x, %v", app, err)
			}
			compose, err := l.Runtime("compose-hash")
			if err != nil || !bytes.HasPrefix(compose, app) {
				t.Errorf("compose-hash %x, %v", compose, err)
			}
			if _, err := l.Runtime("absent"); err == nil {
				t.Error("an event that is not there")
			}
		})
	}
}

// tpmLogs are real TPM logs.
func tpmLogs(t testing.TB) map[string][]byte {
	logs := map[string][]byte{
		"arch-linux": testdata.ArchLinuxWorkstationEventLog, "debian-10": testdata.Debian10EventLog, "glinux-alex": testdata.GlinuxAlexEventLog, "rhel8": testdata.Rhel8EventLog,
		"ubuntu-1804-amd-sev": testdata.Ubuntu1804AmdSevEventLog, "ubuntu-2104-no-dbx": testdata.Ubuntu2104NoDbxEventLog, "ubuntu-2104-no-sb": testdata.Ubuntu2104NoSecureBootEventLog,
		"ubuntu-2404-amd-sevsnp": testdata.Ubuntu2404AmdSevSnpEventLog, "cos-85": testdata.Cos85AmdSevEventLog, "cos-93": testdata.Cos93AmdSevEventLog, "cos-101": testdata.Cos101AmdSevEventLog,
		"cos-121": testdata.Cos121AmdSevEventLog, "gdc-host": testdata.GdcHost, "ubuntu-2404-tdx": testdata.Ubuntu2404IntelTdxA4HighGpu8GEventLog, "cos-125-tdx": testdata.Cos125IntelTdxSecureBootA4HighGpu8GEventLog,
	}
	if b := vectorOrNil(openpccTCG); b != nil {
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "LOG" {
				logs["openpcc"] = block.Bytes
			}
		}
	}
	if b := vectorOrNil(ubuntuTCG); b != nil {
		logs["go-tpm-tools"] = b
	}
	return logs
}

// TestAgainstGoEventlog has github.com/google/go-eventlog replay the same logs
// to our registers, and refuse them when one register is another.
func TestAgainstGoEventlog(t *testing.T) {
	agile := 0
	for name, b := range tpmLogs(t) {
		for alg, theirs := range map[crypto.Hash]register.HashAlg{crypto.SHA1: register.HashSHA1, crypto.SHA256: register.HashSHA256, crypto.SHA384: register.HashSHA384} {
			t.Run(fmt.Sprint(name, " ", alg), func(t *testing.T) {
				l, err := ParseTCG(b, alg)
				if err != nil {
					if strings.Contains(err.Error(), "not a crypto-agile log") || strings.Contains(err.Error(), "digests") || strings.Contains(err.Error(), "EV_NO_ACTION") {
						t.Skipf("not for this test: %v", err)
					}
					t.Fatal(err)
				}
				agile++
				registers, err := Replay(l)
				if err != nil {
					t.Fatal(err)
				}
				bank := func(change int) (mrs []register.MR) {
					for i, v := range registers {
						v = bytes.Clone(v)
						if i == change {
							v[0] ^= 1
						}
						mrs = append(mrs, register.PCR{Index: i, Digest: v, DigestAlg: alg})
					}
					return mrs
				}
				events, err := tcg.ParseAndReplay(b, bank(-1), tcg.ParseOpts{})
				if err != nil {
					t.Fatalf("go-eventlog (%v) disagrees: %v", theirs, err)
				}
				if _, err := tcg.ParseAndReplay(b, bank(7), tcg.ParseOpts{}); err == nil {
					t.Error("go-eventlog accepts another PCR 7")
				}
				measured := slices.DeleteFunc(slices.Clone(l.Events), func(e Event) bool { return e.Binding == NotMeasured })
				if len(events) != len(measured) {
					t.Fatalf("go-eventlog sees %d events, we %d", len(events), len(measured))
				}
				for i, e := range events {
					ours := measured[i]
					if e.Index != ours.Register || uint32(e.Type) != uint32(ours.Type) || !bytes.HasPrefix(e.Data, ours.Data) || !bytes.Equal(e.Digest, ours.Digest) {
						t.Fatalf("event %d: go-eventlog %v in %d, we %v in %d", i, e.Type, e.Index, ours.Type, ours.Register)
					}
					if e.DigestVerified() && ours.Binding != Bound {
						t.Errorf("event %d: go-eventlog says that the data was measured, we %v", i, ours.Binding)
					}
				}
				for i, e := range l.Events {
					if e.Binding == Contradicted {
						t.Errorf("event %d, %v in PCR %d, is contradicted: digest %x, data %.40q", i, e.Type, e.Register, e.Digest, e.Data)
					}
				}
			})
		}
	}
	if agile == 0 {
		t.Error("no log was compared")
	}
	for _, name := range []string{googleCCEL, liveCCEL, live2CCEL, cocoCCEL, dstackCCEL} {
		t.Run(name, func(t *testing.T) {
			b := vector(t, name)
			l, err := ParseCCEL(b)
			if err != nil {
				t.Fatal(err)
			}
			registers, err := Replay(l)
			if err != nil {
				t.Fatal(err)
			}
			var mrs []register.MR
			for i, v := range registers {
				mrs = append(mrs, register.RTMR{Index: i, Digest: v})
			}
			if _, err := tcg.ParseAndReplay(b, mrs, tcg.ParseOpts{AllowPadding: true}); err != nil {
				t.Errorf("go-eventlog disagrees: %v", err)
			}
			if n := count(l); n[Contradicted] != 0 {
				t.Errorf("%d events are contradicted", n[Contradicted])
			}
		})
	}
}

func TestRealCEL(t *testing.T) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(vector(t, spaceCEL))), ""))
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseCEL(b, crypto.SHA384)
	if err != nil {
		t.Fatal(err)
	}
	if n := count(l); len(l.Events) != 18 || n[Bound] != 18 || l.Registers != RTMR || l.Events[0].Register != 3 {
		t.Errorf("%d events, %v, %v %d", len(l.Events), n, l.Registers, l.Events[0].Register)
	}
	registers, err := Replay(l)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := cel.DecodeToCEL(bytes.NewBuffer(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Replay(register.RTMRBank{RTMRs: []register.RTMR{{Index: 3, Digest: registers[3]}}}); err != nil {
		t.Errorf("go-eventlog disagrees: %v", err)
	}
	// The runtime log of one machine does not explain the boot of another.
	boot, err := ParseCCEL(vector(t, googleCCEL))
	if err != nil {
		t.Fatal(err)
	}
	want := rtmrs(t, vector(t, googleQuote))
	want[3] = registers[3]
	checks, err := Verify(want, boot, l)
	if err != nil {
		t.Fatal(err)
	}
	allPass(t, checks)
}
