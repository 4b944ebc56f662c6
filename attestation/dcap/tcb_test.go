package dcap

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
)

func TestConvergence(t *testing.T) {
	setSVN := func(module byte) func(*world) { return func(w *world) { w.td()[0] = module } }
	qeSVN := func(svn byte) func(*world) { return func(w *world) { w.qeReport[258] = svn } }
	platform := func(status string) func(*world) {
		return func(w *world) {
			tdx := 5
			if w.header[0] == 3 {
				tdx = -1
			}
			w.tcbInfo["tcbLevels"] = []any{level(5, tdx, 13, status, date1, "INTEL-SA-00009")}
		}
	}
	// The TD was started on older microcode: the SGX TCB is on one level, the TD's on the one below.
	started := func(sgx, tdx string) func(*world) {
		return func(w *world) {
			w.td()[2] = 3
			w.tcbInfo["tcbLevels"] = []any{level(5, 5, 13, sgx, date1), level(5, 3, 13, tdx, date2)}
		}
	}
	for _, c := range []struct {
		name    string
		version uint16
		bend    []func(*world)
		want    TCBStatus
	}{
		{"all up to date", 4, nil, UpToDate},
		{"PCK SVN between levels", 4, []func(*world){func(w *world) { w.ext.components[1] = 4 }}, OutOfDate},
		{"PCK SVN on the revoked level", 4, []func(*world){func(w *world) { w.ext.components[1] = 2 }}, Revoked},
		{"PCK SVN below every level", 4, []func(*world){func(w *world) { w.ext.components[1] = 0 }}, NotSupported},
		{"PCESVN below the first level", 4, []func(*world){func(w *world) { w.ext.pcesvn = 12 }}, Revoked},
		{"PCESVN below every level", 4, []func(*world){func(w *world) { w.ext.pcesvn = 4 }}, NotSupported},
		{"TD microcode SVN behind", 4, []func(*world){func(w *world) { w.td()[2] = 3 }}, OutOfDate},
		{"TD SVN below every level", 4, []func(*world){func(w *world) { w.td()[2] = 0 }}, NotSupported},
		// The trap that go-tdx-guest falls into: a fresh module on an outdated platform.
		{"platform out of date behind an up-to-date module", 4, []func(*world){platform("OutOfDate")}, OutOfDate},
		{"platform revoked behind an up-to-date module", 4, []func(*world){platform("Revoked")}, Revoked},
		{"platform needs configuration", 4, []func(*world){platform("ConfigurationNeeded")}, ConfigurationNeeded},
		{"platform needs hardening", 4, []func(*world){platform("SWHardeningNeeded")}, SWHardeningNeeded},
		{"platform needs both", 4, []func(*world){platform("ConfigurationAndSWHardeningNeeded")}, ConfigurationAndSWHardeningNeeded},
		{"platform out of date and misconfigured", 4, []func(*world){platform("OutOfDateConfigurationNeeded")}, OutOfDateConfigurationNeeded},

		{"module out of date", 4, []func(*world){setSVN(5)}, OutOfDate},
		{"module revoked", 4, []func(*world){setSVN(3)}, Revoked},
		{"module below every level", 4, []func(*world){setSVN(1)}, NotSupported},
		{"module out of date, hardening needed", 4, []func(*world){setSVN(5), platform("SWHardeningNeeded")}, OutOfDate},
		{"module out of date, configuration needed", 4, []func(*world){setSVN(5), platform("ConfigurationNeeded")}, OutOfDateConfigurationNeeded},
		{"module out of date, both needed", 4, []func(*world){setSVN(5), platform("ConfigurationAndSWHardeningNeeded")}, OutOfDateConfigurationNeeded},
		{"module out of date, platform revoked", 4, []func(*world){setSVN(5), platform("Revoked")}, Revoked},
		{"module older than 1.5 is judged by the platform's level", 4, []func(*world){func(w *world) { w.td()[0], w.td()[1] = 3, 0 }}, OutOfDate},

		{"QE out of date", 4, []func(*world){qeSVN(5)}, OutOfDate},
		{"QE revoked", 4, []func(*world){qeSVN(3)}, Revoked},
		{"QE below every level", 4, []func(*world){qeSVN(1)}, NotSupported},
		{"QE out of date, configuration needed", 4, []func(*world){qeSVN(5), platform("ConfigurationNeeded")}, OutOfDateConfigurationNeeded},
		{"QE below every level, platform revoked", 4, []func(*world){qeSVN(1), platform("Revoked")}, Revoked},

		{"SGX up to date", 3, nil, UpToDate},
		{"SGX out of date", 3, []func(*world){func(w *world) { w.ext.components[0] = 3 }}, OutOfDate},
		{"SGX QE out of date, both needed", 3, []func(*world){qeSVN(5), platform("ConfigurationAndSWHardeningNeeded")}, OutOfDateConfigurationNeeded},
		{"SGX QE below every level, platform revoked", 3, []func(*world){qeSVN(1), platform("Revoked")}, NotSupported},

		{"relaunch: newer module loaded", 5, []func(*world){setSVN(5)}, TDRelaunchAdvised},
		{"relaunch: configuration needed as well", 5, []func(*world){setSVN(5), platform("ConfigurationNeeded")}, TDRelaunchAdvisedConfigurationNeeded},
		{"relaunch: loaded module is old too", 5, []func(*world){setSVN(5), func(w *world) { w.td()[584] = 5 }}, OutOfDate},
		{"relaunch: loaded microcode is old", 5, []func(*world){setSVN(5), func(w *world) { w.td()[586] = 4 }}, OutOfDate},
		{"relaunch: platform is old", 5, []func(*world){setSVN(5), platform("OutOfDate")}, OutOfDate},
		{"relaunch: both needed as well", 5, []func(*world){setSVN(5), platform("ConfigurationAndSWHardeningNeeded")}, TDRelaunchAdvisedConfigurationNeeded},
		{"relaunch: hardening needed as well", 5, []func(*world){setSVN(5), platform("SWHardeningNeeded")}, TDRelaunchAdvised},
		{"relaunch: module up to date, microcode behind", 5, []func(*world){func(w *world) { w.td()[2] = 3 }}, OutOfDate},
		{"relaunch: configuration needed by SGX alone", 5, []func(*world){setSVN(5), started("ConfigurationNeeded", "OutOfDate")}, TDRelaunchAdvisedConfigurationNeeded},
		{"relaunch: configuration needed by the TD alone", 5, []func(*world){setSVN(5), started("UpToDate", "ConfigurationNeeded")}, TDRelaunchAdvisedConfigurationNeeded},
		{"relaunch: module revoked", 5, []func(*world){setSVN(3)}, Revoked},
		{"relaunch: QE is old", 5, []func(*world){setSVN(5), qeSVN(5)}, OutOfDate},
		{"relaunch: another major version loaded", 5, []func(*world){setSVN(5), func(w *world) { w.td()[584], w.td()[585] = 3, 3 }}, TDRelaunchAdvised},
		{"relaunch: module older than 1.5 loaded", 5, []func(*world){setSVN(5), func(w *world) { w.td()[585] = 0 }}, TDRelaunchAdvised},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(c.version)
			for _, bend := range c.bend {
				bend(w)
			}
			r, err := w.appraise(t)
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != c.want {
				t.Errorf("platform %s, module %q, QE %s: %s, want %s", r.Platform.Status, r.Module.Status, r.QE.Status, r.Status, c.want)
			}
		})
	}
}

func TestRelaunchUnknownModule(t *testing.T) {
	w := newWorld(5)
	w.td()[0], w.td()[585] = 5, 7
	r, err := w.appraise(t)
	if err == nil || r.Status != NotSupported || !slices.Equal(wrong(r, check.Fail), []string{CheckTCBStatus}) {
		t.Errorf("status %s, %v", r.Status, err)
	}
}

func TestAdvisoriesAndDates(t *testing.T) {
	w := newWorld(4)
	w.ext.components[0], w.td()[0], w.qeReport[258] = 3, 4, 5
	r, err := w.appraise(t)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{CheckTCBPlatform: "OutOfDate, TCB date 2025-06-01, INTEL-SA-00001 (PCK TCB ", CheckTCBModule: "TDX_01 OutOfDate, TCB date ", CheckTCBQE: "OutOfDate, TCB date ", CheckTCBStatus: "OutOfDate"} {
		if c := r.Checks[slices.IndexFunc(r.Checks, func(c check.Check) bool { return c.ID == id })]; !strings.HasPrefix(c.Seen, want) {
			t.Errorf("%s has seen %q", id, c.Seen)
		}
	}
	if want := []string{"INTEL-SA-00001", "INTEL-SA-00002", "INTEL-SA-00004"}; !slices.Equal(r.AdvisoryIDs, want) {
		t.Errorf("advisories %v, want %v", r.AdvisoryIDs, want)
	}
	if r.ModuleID != "TDX_01" || r.TCBDate.Format(time.RFC3339) != date2 || r.TCBEvaluationDataNumber != 20 || r.QEEvaluationDataNumber != 19 {
		t.Errorf("module %s, date %v, evaluation %d and %d", r.ModuleID, r.TCBDate, r.TCBEvaluationDataNumber, r.QEEvaluationDataNumber)
	}
	w = newWorld(4)
	w.td()[0] = 2
	if r, err := w.appraise(t); err != nil || r.TCBDate.Format(time.RFC3339) != date3 {
		t.Errorf("date %v, %v", r.TCBDate, err)
	}
	p := r.PCK
	if p.CA != cnPlatformCA || p.PCESVN != 13 || p.SGXType != SGXScalable || p.PlatformInstanceID == nil || !*p.Configuration.DynamicPlatform || *p.Configuration.CachedKeys {
		t.Errorf("PCK %+v", p)
	}
}

// Levels are judged from the highest down, in whatever order Intel lists them.
func TestLevelOrder(t *testing.T) {
	w := newWorld(4)
	slices.Reverse(w.tcbInfo["tcbLevels"].([]any))
	slices.Reverse(w.qeIdentity["tcbLevels"].([]any))
	slices.Reverse(w.tcbInfo["tdxModuleIdentities"].([]any)[0].(map[string]any)["tcbLevels"].([]any))
	if r, err := w.appraise(t); err != nil || r.Status != UpToDate {
		t.Errorf("%s, %v", r.Status, err)
	}
}

// Genuine evidence, genuine collateral: the platform is out of date, its TDX module is not.
func TestRealPlatformBehindModule(t *testing.T) {
	v := intelVerifier(t)
	q, err := ParseQuote(vectorFile(t, "quotes/TDX-v4-245105f75f986ff4.bin"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC)
	r, err := v.Verify(at, q, realCollateral(t, "coco-trustee/tcbInfo.json", "coco-trustee/enclaveIdentity.json", cnPlatformCA, at))
	if err != nil {
		t.Fatal(err)
	}
	if r.Platform.Status != OutOfDate || r.Module.Status != UpToDate || r.Status != OutOfDate {
		t.Errorf("platform %s, module %s: %s", r.Platform.Status, r.Module.Status, r.Status)
	}
}
