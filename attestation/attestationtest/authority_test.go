package attestationtest_test

import (
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	. "github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func parseCert(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dcapCollateral assembles the endorsements the way a user of package dcap alone would.
func dcapCollateral(t *testing.T, e Endorsements, processor bool) *dcap.Collateral {
	t.Helper()
	var c dcap.Collateral
	var err error
	fail := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c.TCBInfo, err = dcap.ParseTCBInfo(e.TCBInfo)
	fail()
	c.QEIdentity, err = dcap.ParseQEIdentity(e.QEIdentity)
	fail()
	c.TCBInfoChain, err = dcap.ParseChain(e.TCBSigner)
	fail()
	c.QEIdentityChain = c.TCBInfoChain
	c.RootCRL, err = dcap.ParseCRL(e.RootCRL)
	fail()
	der := e.PlatformCRL
	if processor {
		der = e.ProcessorCRL
	}
	c.PCKCRL, err = dcap.ParseCRL(der)
	fail()
	return &c
}

// Every status of the mock platform, module and QE must come out of the real evaluation as itself.
func TestQuoteStatuses(t *testing.T) {
	auth := New("quotes")
	e := auth.Endorsements(CollateralOptions{Now: now})
	v, err := dcap.NewVerifier(parseCert(t, e.IntelRoot))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		config NodeConfig
		want   dcap.TCBStatus
	}{
		{NodeConfig{}, UpToDate},
		{NodeConfig{QuoteVersion: 5}, UpToDate},
		{NodeConfig{ProcessorCA: true}, UpToDate},
		{NodeConfig{Module: OutOfDate}, OutOfDate},
		{NodeConfig{Module: Revoked}, Revoked},
		{NodeConfig{Module: NotSupported}, NotSupported},
		{NodeConfig{Module: OutOfDate, QuoteVersion: 5}, OutOfDate},
		{NodeConfig{Module: OutOfDate, ModuleNow: UpToDate, QuoteVersion: 5}, dcap.TDRelaunchAdvised},
		{NodeConfig{Module: OutOfDate, ModuleNow: UpToDate}, OutOfDate},
		{NodeConfig{Module: OutOfDate, ModuleNow: UpToDate, QuoteVersion: 5, Platform: ConfigurationNeeded}, OutOfDateConfigurationNeeded}, // not the newest microcode
		{NodeConfig{QE: OutOfDate}, OutOfDate},
		{NodeConfig{QE: Revoked}, Revoked},
		{NodeConfig{Platform: NotSupported}, NotSupported},
	}
	for _, s := range []string{UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDate,
		OutOfDateConfigurationNeeded, Revoked} {
		cases = append(cases, struct {
			config NodeConfig
			want   dcap.TCBStatus
		}{NodeConfig{Platform: s}, dcap.TCBStatus(s)})
	}
	for _, c := range cases {
		c.config.Name = "node"
		n, err := auth.NewNode(c.config)
		if err != nil {
			t.Fatal(err)
		}
		q, err := dcap.ParseQuote(n.Quote([64]byte{1, 2, 3}))
		if err != nil {
			t.Fatalf("%+v: %v", c.config, err)
		}
		res, err := v.Verify(now, q, dcapCollateral(t, e, c.config.ProcessorCA))
		if err != nil || res.Status != c.want {
			t.Errorf("%+v: status %q, error %v, want %q", c.config, res.Status, err, c.want)
		}
		if q.ReportData() != [64]byte{1, 2, 3} {
			t.Errorf("report data %x", q.ReportData())
		}
	}
}

func TestDeviceReports(t *testing.T) {
	auth := New("devices")
	e := auth.Endorsements(CollateralOptions{Now: now})
	v, err := nvidia.NewVerifier(nvidia.Config{
		DeviceRoots: []nvidia.Fingerprint{sha256.Sum256(e.DeviceRoot)},
		RIMRoots:    []nvidia.Fingerprint{sha256.Sum256(e.RIMRoot)},
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := auth.NewNode(NodeConfig{Name: "node", GPUs: 2, Switches: 2})
	if err != nil {
		t.Fatal(err)
	}
	nonce := [32]byte{9}
	for i, d := range n.Devices(nonce) {
		res := v.Verify(nvidia.Evidence{Report: d.Report, Chain: d.Certificates}, nvidia.Options{Nonce: nonce[:], Time: now})
		for _, c := range res.Checks {
			if c.Status == check.Fail {
				t.Errorf("device %d: %+v", i, c)
			}
		}
		if res.Report == nil || res.Device == nil {
			t.Fatalf("device %d: nothing parsed", i)
		}
	}
}

// One seed must be one authority, in every process: all bytes agree.
func TestDeterministic(t *testing.T) {
	make := func() []byte {
		a := New("same")
		n, err := a.NewNode(NodeConfig{Name: "n", GPUs: 1})
		if err != nil {
			t.Fatal(err)
		}
		ev, err := n.Collect(t.Context(), [32]byte{1}, []byte("keyset"))
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	if first, second := make(), make(); string(first) != string(second) {
		t.Error("two runs differ")
	}
}
