package nvidia

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
)

const (
	sdk     = "nvidia-attestation-sdk/"
	samples = "nvidia-nvtrust/guest_tools__gpu_verifiers__local_gpu_verifier__src__verifier__samples__"

	goDriverRIM = samples + "Driver_RIM_test_no_gpu.swidtag"
	goVBIOSRIM  = samples + "1010_0200_882_96005E0001_test_no_gpu.swidtag"
	goReport    = "go-nvtrust/pkg__gonvtrust__mocks__attestationReport.txt"
	goChain     = "go-nvtrust/pkg__gonvtrust__mocks__gpuAkCertChain.txt"

	switchRIM    = sdk + "switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"
	switchReport = sdk + "switchAttestationReport.txt"
	switchChain  = sdk + "switchCertChain.txt"
)

func rimFile(t testing.TB, name string) *RIM {
	t.Helper()
	r, err := ParseRIM(vector(t, name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// TestGoldenGPU matches the one real GPU report whose both manifests are here.
func TestGoldenGPU(t *testing.T) {
	v := newVerifier(t)
	e := Evidence{Report: reportFile(t, goReport), Chain: vector(t, goChain)}
	driver, vbios := rimFile(t, goDriverRIM), rimFile(t, goVBIOSRIM)
	if len(driver.Golden) != 21 || len(vbios.Golden) != 12 {
		t.Errorf("%d and %d active measurements, want 21 and 12", len(driver.Golden), len(vbios.Golden))
	}
	o := Options{Time: time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC), Collateral: Collateral{RIMs: []*RIM{vbios, driver}}}
	res := v.Verify(e, o)
	want := map[string]check.Status{CheckMeasurements: check.Pass, CheckFWID: check.Skip, CheckNonce: check.Skip}
	for _, r := range []role{driverRole, vbiosRole} {
		want[r.signature], want[r.chain], want[r.validity], want[r.version], want[r.ocsp] = check.Pass, check.Pass, check.Pass, check.Pass, check.Skip
	}
	wantStatus(t, res, want)
	if until := time.Date(2025, 6, 22, 9, 38, 54, 0, time.UTC); !res.ValidUntil.Equal(until) {
		t.Errorf("valid until %v, want %v", res.ValidUntil, until)
	}
	// NVDEC0 is disabled on this device, so golden 35 does not count.
	if c := res.check(t, CheckMeasurements); c.Seen != "32 match" {
		t.Errorf("measurements: %s", c.Seen)
	}

	t.Run("expired", func(t *testing.T) {
		o := o
		o.Time = at
		want := map[string]check.Status{CheckDriverRIMValidity: check.Fail, CheckVBIOSRIMValidity: check.Fail, CheckMeasurements: check.Pass}
		wantStatus(t, v.Verify(e, o), want)
	})
	t.Run("driver manifest missing", func(t *testing.T) {
		o := o
		o.Collateral.RIMs = []*RIM{vbios}
		wantStatus(t, v.Verify(e, o), map[string]check.Status{CheckDriverRIMVersion: check.Skip, CheckDriverRIMSignature: check.Skip, CheckVBIOSRIMSignature: check.Pass, CheckMeasurements: check.Skip})
	})
	t.Run("driver manifest of another version", func(t *testing.T) {
		o := o
		o.Collateral.RIMs = []*RIM{vbios, rimFile(t, sdk+"NV_GPU_DRIVER_GH100_550.144.03.xml")}
		wantStatus(t, v.Verify(e, o), map[string]check.Status{CheckDriverRIMVersion: check.Fail, CheckDriverRIMSignature: check.Skip, CheckMeasurements: check.Skip})
	})
	t.Run("RIM root not pinned", func(t *testing.T) {
		v, err := NewVerifier(Config{DeviceRoots: deviceRoot, RIMRoots: []Fingerprint{ProductionDeviceRoot}})
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, v.Verify(e, o), map[string]check.Status{CheckDriverRIMChain: check.Fail, CheckVBIOSRIMChain: check.Fail, CheckMeasurements: check.Skip})
	})
}

func TestGoldenSwitch(t *testing.T) {
	v := newVerifier(t)
	e := Evidence{Report: reportFile(t, switchReport), Chain: vector(t, switchChain)}
	rim := rimFile(t, switchRIM)
	if len(rim.Golden) != 31 {
		t.Errorf("%d active measurements, want 31", len(rim.Golden))
	}
	res := v.Verify(e, Options{Time: at, Collateral: Collateral{RIMs: []*RIM{rim}}})
	wantStatus(t, res, map[string]check.Status{CheckMeasurements: check.Pass, CheckVBIOSRIMSignature: check.Pass, CheckVBIOSRIMChain: check.Pass, CheckVBIOSRIMValidity: check.Pass,
		CheckVBIOSRIMVersion: check.Pass, CheckSignature: check.Pass, CheckModel: check.Pass, CheckFWID: check.Skip})
	if c := res.check(t, CheckMeasurements); c.Seen != "31 match" {
		t.Errorf("measurements: %s", c.Seen)
	}
	if id := res.Report.VBIOSRIMID(); id != "NV_SWITCH_BIOS_5612_0002_890_9610550001" {
		t.Errorf("RIM id %s", id)
	}
}

// TestManifestNegatives takes NVIDIA's own bad manifests; each must fail for
// its own reason.
func TestManifestNegatives(t *testing.T) {
	for _, x := range []struct {
		file, signature, chain string
		valid                  bool
	}{
		{"NV_GPU_DRIVER_GH100_550.144.03.xml", "", "", true},
		{"incorrect_signature_driver_rim.xml", "signature does not verify", "", true},
		{"incorrect_cert_chain_driver_rim.xml", "", "not among the pinned", true},
		{"sample_rims__NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml", "digest", "", true},
		{"sample_rims__NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml", "digest", "", false},
		{"sample_rims__NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml", "digest", "", false},
		// Its version was changed by hand, so the digest is wrong as well.
		{"sample_rims__NV_GPU_DRIVER_GH100_570.124.03_expired.xml", "digest", "", false},
		// Genuine and expired; it does not match the report, see TestMeasurementMismatch.
		{"sample_rims__NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml", "", "", false},
	} {
		t.Run(x.file, func(t *testing.T) {
			r := rimFile(t, sdk+x.file)
			v := newVerifier(t)
			for _, e := range []struct {
				what string
				err  error
				want string
			}{{"signature", r.sigErr, x.signature}, {"chain", v.rimChain(r), x.chain}} {
				if (e.err == nil) != (e.want == "") || e.err != nil && !strings.Contains(e.err.Error(), e.want) {
					t.Errorf("%s: %v, want %q", e.what, e.err, e.want)
				}
			}
			if r.validity.contains(at) != x.valid {
				t.Errorf("validity %v", r.validity)
			}
		})
	}
}

// TestMeasurementMismatch compares a report with a genuine manifest of its
// version that is not the one for its firmware.
func TestMeasurementMismatch(t *testing.T) {
	v := newVerifier(t)
	e := Evidence{Report: reportFile(t, goReport), Chain: vector(t, goChain)}
	driver := rimFile(t, goDriverRIM)
	vbios := rimFile(t, sdk+"sample_rims__NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml")
	res := v.Verify(e, Options{Time: time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC), Collateral: Collateral{RIMs: []*RIM{driver, vbios}}})
	wantStatus(t, res, map[string]check.Status{CheckMeasurements: check.Fail, CheckVBIOSRIMSignature: check.Pass})
	if len(res.Mismatches) == 0 || res.Mismatches[0].Source != "vbios" || res.Mismatches[0].Got == "" || len(res.Mismatches[0].Want) == 0 {
		t.Errorf("mismatches: %+v", res.Mismatches)
	}
	t.Log(res.check(t, CheckMeasurements))
}

// TestProductionManifests verifies every production VBIOS manifest that is
// here, at a time when its signer was valid.
func TestProductionManifests(t *testing.T) {
	names := []string{"1010_0200_882_96005E0001", "1010_0205_862_960074001F", "g520_0228_889_96006D0029"}
	v := newVerifier(t)
	for _, n := range names {
		r := rimFile(t, samples+n+"_PROD.swidtag")
		if r.sigErr != nil || v.rimChain(r) != nil || !r.VBIOS() || r.Product != "GH100" {
			t.Errorf("%s: signature %v, chain %v, %+v", n, r.sigErr, v.rimChain(r), r)
		}
	}
}

// TestManifestTampering changes single bytes of a real manifest: nothing that
// is signed may change unseen, and nothing may panic.
func TestManifestTampering(t *testing.T) {
	good := vector(t, switchRIM)
	clean := rimFile(t, switchRIM)
	if clean.sigErr != nil {
		t.Fatal(clean.sigErr)
	}
	end := bytes.Index(good, []byte("<ds:KeyInfo>"))
	accepted := 0
	for i := 0; i < end; i += 397 {
		b := bytes.Clone(good)
		b[i] ^= 1
		r, err := ParseRIM(b)
		if err != nil || r.sigErr != nil {
			continue
		}
		accepted++
		if fmt.Sprint(r.Golden) != fmt.Sprint(clean.Golden) || r.Version != clean.Version || r.Product != clean.Product {
			t.Fatalf("byte %d changed the manifest unseen", i)
		}
	}
	if accepted > 5 {
		t.Errorf("%d of the changes were accepted", accepted)
	}
}

// Reading a manifest takes a small multiple of its size, whatever it is made of.
func TestManifestAllocation(t *testing.T) {
	allocated := func(b []byte) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ParseRIM(b)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	within := func(t *testing.T, name string, b []byte, factor, more uint64) {
		t.Helper()
		n := allocated(b)
		t.Logf("%s: %d bytes, %.1f times that allocated", name, len(b), float64(n)/float64(len(b)))
		if n > factor*uint64(len(b))+more {
			t.Errorf("%s: %d bytes allocated for %d, the most is %d times that and %d", name, n, len(b), factor, more)
		}
	}
	t.Run("forged", func(t *testing.T) {
		fg := newForge(t, layout{})
		golden := map[int][]string{7: {hex.EncodeToString(forgedMeasurement(7))}}
		many := map[int][]string{}
		for i := range 200 {
			many[i] = golden[7]
		}
		const room = MaxRIMSize - 16<<10
		filled := func(what string, most int) []byte {
			return fg.rim(manifest{golden: golden, body: func(s string) string { return s + strings.Repeat(what, min(room/len(what), most)) }})
		}
		elements := maxRIMElements - 64
		long := strings.Repeat("y", room/elements-40)
		ParseRIM(filled("x", 1)) // tables that are made once
		for name, b := range map[string][]byte{
			"usual": fg.rim(manifest{golden: golden}), "full": fg.rim(manifest{golden: many}), "text": filled("x", room), "entities": filled("&lt;", room),
			"comments": filled("<!---->", room), "CDATA": filled("<![CDATA[\r]]>", room), "elements": filled("<"+long+"/>", elements), "too many elements": filled("<x/>", room),
			"attributes": filled(`<x a="" b="" c="" d=""/>`, elements), "namespaces": filled(`<x xmlns:b="u:c" b:d="`+long+`"/>`, elements),
			"references": filled(`<x a="&lt;`+long+`"/>`, elements), "open": bytes.Repeat([]byte("<x>"), MaxRIMSize/3),
			"certificates": fg.rim(manifest{golden: golden, certs: slices.Concat(fg.certs, fg.certs[:3])}),
		} {
			within(t, name, b, 4, 96<<10) // certificates and signatures take the same for any manifest
		}
	})
	t.Run("largest real", func(t *testing.T) { within(t, "NVIDIA's", vector(t, switchRIM), 6, 0) })
}

// Each of the two manifests is judged by itself: what is wrong with one fails its own check and no other.
func TestEachManifestAlone(t *testing.T) {
	f := newForge(t, layout{})
	// The other manifest is signed under a root of its own, so that what happens to one signer does not happen to both.
	good := newForge(t, layout{})
	expired := newForge(t, layout{change: func(i int, c *x509.Certificate) {
		if i == 0 {
			c.NotAfter = at.Add(-time.Hour)
		}
	}})
	stranger := newForge(t, layout{})
	v, err := NewVerifier(Config{DeviceRoots: f.roots(), RIMRoots: append(append(f.roots(), good.roots()...), expired.roots()...)})
	if err != nil {
		t.Fatal(err)
	}
	pick := func(driver bool, o *forge) *RIM {
		d, b := o.goldenRIMs()
		if driver {
			return d
		}
		return b
	}
	for _, role := range []struct {
		name                                      string
		driver                                    bool
		version, signature, chain, validity, ocsp string
	}{
		{"driver", true, CheckDriverRIMVersion, CheckDriverRIMSignature, CheckDriverRIMChain, CheckDriverRIMValidity, CheckDriverRIMOCSP},
		{"vbios", false, CheckVBIOSRIMVersion, CheckVBIOSRIMSignature, CheckVBIOSRIMChain, CheckVBIOSRIMValidity, CheckVBIOSRIMOCSP},
	} {
		version := "96.00.5E.00.01"
		if role.driver {
			version = "545.00"
		}
		bent := func(m manifest) *RIM {
			if m.version == "" {
				m.version = version
			}
			m.golden = map[int][]string{7: {hex.EncodeToString(forgedMeasurement(7))}}
			r, err := ParseRIM(f.rim(m))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		other := version[:len(version)-1] + "9"
		for _, c := range []struct {
			rim *RIM
			id  string
			why string
		}{
			{bent(manifest{version: other}), role.version, "other versions"},
			{bent(manifest{key: f.keys[1]}), role.signature, "does not verify"},
			{pick(role.driver, stranger), role.chain, "not among the pinned"},
			{pick(role.driver, expired), role.validity, "not valid at the appraisal time"},
		} {
			t.Run(c.id, func(t *testing.T) {
				o := Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: []*RIM{c.rim, pick(!role.driver, good)}}}
				res := v.Verify(f.evidence(gpu()), o)
				onlyFails(t, res, c.id, c.why)
				if stale := res.check(t, c.id).Stale; (stale != "") != (c.id == role.validity) {
					t.Errorf("stale collateral: %q", stale)
				}
			})
		}
		t.Run(role.ocsp, func(t *testing.T) {
			revoked := OCSP{Response: f.ocsp(answer{cert: f.certs[0], issuer: f.certs[1], signer: f.keys[1], status: RevocationRevoked, reason: 4})}
			o := Options{Nonce: forgedNonce, Time: at, Collateral: Collateral{RIMs: []*RIM{pick(role.driver, f), pick(!role.driver, good)}, OCSP: []OCSP{revoked}}}
			onlyFails(t, v.Verify(f.evidence(gpu()), o), role.ocsp, "is revoked, reason 4")
		})
	}
}
