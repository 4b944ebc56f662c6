package nvidia

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/internal/alone"
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

// deviceRoot is the production root, by opting in.
var deviceRoot = []Fingerprint{ProductionDeviceRoot}

// at is when the vectors are appraised unless a test says otherwise.
var at = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// reportFile reads a report written in hexadecimal or base64.
func reportFile(t testing.TB, name string) []byte {
	t.Helper()
	s := strings.Join(strings.Fields(string(vector(t, name))), "")
	b, err := hex.DecodeString(s)
	if err != nil {
		if b, err = base64.StdEncoding.DecodeString(s); err != nil {
			t.Fatalf("%s is neither hexadecimal nor base64", name)
		}
	}
	return b
}

type serialized struct {
	Arch, Nonce, Evidence, Certificate string
}

// evidenceFile reads NVIDIA's serialized evidence.
func evidenceFile(t testing.TB, name string) (out []Evidence, entries []serialized) {
	t.Helper()
	b := vector(t, name)
	if err := json.Unmarshal(b, &entries); err != nil {
		var one struct {
			Nonce, Arch  string
			EvidenceList []serialized `json:"evidence_list"`
		}
		if err := json.Unmarshal(b, &one); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, e := range one.EvidenceList {
			e.Nonce, e.Arch = one.Nonce, one.Arch
			entries = append(entries, e)
		}
	}
	for _, e := range entries {
		report, err := base64.StdEncoding.DecodeString(e.Evidence)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		chain, err := base64.StdEncoding.DecodeString(e.Certificate)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, Evidence{Report: report, Chain: chain})
	}
	return out, entries
}

func newVerifier(t testing.TB) *Verifier {
	t.Helper()
	v, err := NewVerifier(Config{DeviceRoots: deviceRoot, RIMRoots: []Fingerprint{ProductionRIMRoot}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (res *Result) check(t testing.TB, id string) check.Check {
	t.Helper()
	recordFailures(res.Checks)
	for _, c := range res.Checks {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no check %s in %v", id, res.Checks)
	return check.Check{}
}

func recordFailures(checks []check.Check) {
	var ids []string
	for _, c := range checks {
		if c.Status == check.Fail {
			ids = append(ids, c.ID)
		}
	}
	failures.Failed(ids)
}

// failures is what the tests of this package saw fail.
var failures alone.Recorder

// Every check must have been seen to fail alone: see package alone.
func TestMain(m *testing.M) { failures.Main(m, nil) }

// wantStatus fails the test unless every check that is not named has passed or
// was skipped, and the named ones have the given status.
func wantStatus(t testing.TB, res *Result, want map[string]check.Status) {
	t.Helper()
	for _, c := range res.Checks {
		w, named := want[c.ID]
		if named && c.Status != w || !named && c.Status == check.Fail {
			t.Errorf("%s is %v (seen %q, want %q, %s)", c.ID, c.Status, c.Seen, c.Wanted, c.Detail)
		}
	}
	for id := range want {
		res.check(t, id)
	}
}

func TestVectors(t *testing.T) {
	var expected []struct {
		Src, Arch, Driver, Nonce, Fwid, FeatureFlag, Ppcie, Vbios, BoardID string
		Chain, Sig                                                         bool
		SwitchPDIs                                                         int
	}
	if err := json.Unmarshal(vector(t, "nvidia/expected.json"), &expected); err != nil {
		t.Fatal(err)
	}
	if len(expected) != 20 {
		t.Fatalf("%d expectations, want 20", len(expected))
	}
	v := newVerifier(t)
	for _, x := range expected {
		t.Run(x.Src, func(t *testing.T) {
			file, index, _ := strings.Cut(strings.TrimSuffix(x.Src, "]"), "[")
			i, err := strconv.Atoi(index)
			if err != nil {
				t.Fatal(err)
			}
			all, entries := evidenceFile(t, file)
			nonce, err := hex.DecodeString(x.Nonce)
			if err != nil {
				t.Fatal(err)
			}
			if entries[i].Nonce != x.Nonce {
				t.Fatalf("nonce of the entry is %s", entries[i].Nonce)
			}
			res := v.Verify(all[i], Options{Nonce: nonce, Time: at})
			fwid := map[string]check.Status{"match": check.Pass, "absent": check.Skip}[x.Fwid]
			debug := check.Skip
			if x.Arch == "BLACKWELL" {
				debug = check.Pass
			}
			if !x.Chain || !x.Sig {
				t.Fatal("an expectation that is not genuine: extend this test")
			}
			wantStatus(t, res, map[string]check.Status{CheckParse: check.Pass, CheckChain: check.Pass, CheckValidity: check.Pass, CheckModel: check.Pass,
				CheckNonce: check.Pass, CheckFWID: fwid, CheckSignature: check.Pass, CheckDebug: debug})
			r := res.Report
			if r == nil {
				t.FailNow()
			}
			if got := map[string]string{"GH100": "HOPPER", "GB100": "BLACKWELL", "LS_10": "LS10"}[res.Device.Model]; got != x.Arch {
				t.Errorf("model %s", res.Device.Model)
			}
			if r.DriverVersion != x.Driver {
				t.Errorf("driver %q, want %q", r.DriverVersion, x.Driver)
			}
			if got := hex.EncodeToString(r.BoardID); got != x.BoardID {
				t.Errorf("board %s, want %s", got, x.BoardID)
			}
			if got := hex.EncodeToString(r.Field(FieldVBIOSVersion)); got != x.Vbios {
				t.Errorf("VBIOS %s, want %s", got, x.Vbios)
			}
			if got := map[Mode]string{ModeSinglePass: "0000", ModeMultiPass: "0100", ModeProtectedPCIe: "0200"}[r.Mode]; got != x.FeatureFlag {
				t.Errorf("mode %v, want %s", r.Mode, x.FeatureFlag)
			}
			if got := map[Toggle]string{ToggleEnabled: "aa", ToggleDisabled: "55"}[r.ProtectedPCIe]; got != x.Ppcie {
				t.Errorf("protected PCIe %v, want %s", r.ProtectedPCIe, x.Ppcie)
			}
			pdis := len(r.SwitchPDIs)
			if r.DevicePDI != (PDI{}) {
				pdis++
			}
			if pdis != x.SwitchPDIs {
				t.Errorf("%d switch ids, want %d", pdis, x.SwitchPDIs)
			}
			if len(r.Unknown) != 0 {
				t.Errorf("unknown opaque fields %v", r.Unknown)
			}
			if want := map[Kind]int{KindGPU: 64, KindSwitch: 31}[r.Kind]; len(r.Measurements) != want {
				t.Errorf("%d measurements, want %d", len(r.Measurements), want)
			}
		})
	}
}
