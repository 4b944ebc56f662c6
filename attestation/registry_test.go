package attestation_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

var (
	registryAt = policy.Account{7}
	build      = sha256.Sum256([]byte("build"))
	config     = sha256.Sum256([]byte("config"))
	weights    = []byte(`{"v":1,"models":[]}`)
)

// published is a policy that lists nothing itself, and the snapshot of the registry that supplies it all.
func published(t *testing.T) (*policy.Policy, *policy.Snapshot) {
	t.Helper()
	p := auth.Policy(now)
	p.TDX.Images, p.SNP.Images = []policy.TDImage{}, []policy.SNPImage{}
	none := policy.Allowed{Allow: []policy.Named{}}
	p.Workload = policy.Workload{Builds: none, Configs: none, Models: none}
	p.Registries = []policy.Publisher{{Name: "example", Reason: "for tests", Network: -217, Address: registryAt, MinDelay: 86400, MaxAge: 1000,
		Supplies: []policy.Supply{policy.Images, policy.Builds, policy.Configs, policy.Models}}}
	m := auth.Image("")
	doc, err := (&policy.ReferenceValues{Version: 1, TDX: []policy.TDXValues{{MRTD: m.MRTD, RTMR: m.RTMR[:]}}, SNP: []policy.SNPValues{{Measurement: m.MRTD}},
		Builds: []policy.Hash{build}, Configs: []policy.Hash{config}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	year := now.AddDate(1, 0, 0)
	return p, &policy.Snapshot{Network: -217, Address: registryAt, Delay: 86400, Time: now.Add(-time.Minute), Changes: 2, Records: []policy.Record{
		{Kind: policy.RecordReference, Status: policy.RecordCurrent, NotBefore: now, NotAfter: year, Name: "enclave", Version: "1.0", Document: doc},
		{Kind: policy.RecordManifest, Status: policy.RecordCurrent, NotBefore: now, NotAfter: year, Name: "model", Version: "1", Document: weights},
	}}
}

func workloadEvidence(t *testing.T, c attestationtest.NodeConfig) []byte {
	t.Helper()
	ev, err := node(t, c).Collect(t.Context(), nonce, encodeKeyset(t, func(k *keyset.Keyset) {
		k.Build, k.Config, k.ModelManifest = build, config, sha256.Sum256(weights)
	}))
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func TestRegistrySuppliesReferenceValues(t *testing.T) {
	for name, c := range map[string]attestationtest.NodeConfig{"TDX": {}, "SEV-SNP": {SNP: true}} {
		t.Run(name, func(t *testing.T) {
			p, s := published(t)
			v, err := attestation.NewVerifier(p, bundle(t, attestationtest.CollateralOptions{}), s)
			if err != nil {
				t.Fatal(err)
			}
			s.Records[0].Status = policy.RecordRevoked // the caller's changes cannot reach it
			r := v.Appraise(now, workloadEvidence(t, c), nonce)
			if err := r.Err(); err != nil {
				t.Fatal(err)
			}
			if c := r.Check(attestation.CheckImage); c.Seen != "enclave 1.0 (example)" || c.Wanted != "in registry example" {
				t.Errorf("%+v", c)
			}
			if c := r.Check("registry0." + attestation.CheckRegistry); c == nil || !c.Required || !strings.Contains(c.Seen, "2 changes") {
				t.Errorf("%+v", c)
			}
			// A result rests on the reading for as long as the policy says, and no longer.
			if want := s.Time.Add(1000 * time.Second); !r.ValidUntil.Equal(want) {
				t.Errorf("valid until %s, want %s", r.ValidUntil, want)
			}
		})
	}
}

// otherOwner has the record name another owner than the tests' TDs have.
func otherOwner(s *policy.Snapshot) {
	s.Records[0].Document = []byte(strings.Replace(string(s.Records[0].Document), `"mrowner":"00`, `"mrowner":"01`, 1))
}

func TestRegistryRefusals(t *testing.T) {
	const reading = "registry0." + attestation.CheckRegistry
	software := []string{attestation.CheckImage, attestation.CheckBuild, attestation.CheckConfig}
	for _, c := range []struct {
		name   string
		change func(p *policy.Policy, s *policy.Snapshot)
		failed []string // none: accepted
	}{
		{"deprecated", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[0].Status = policy.RecordDeprecated }, nil},
		{"revoked", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[0].Status = policy.RecordRevoked }, software},
		{"revoked model", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[1].Status = policy.RecordRevoked }, []string{attestation.CheckModel}},
		{"revoked long ago, and listed again under another name", func(_ *policy.Policy, s *policy.Snapshot) {
			old := s.Records[0]
			old.Status, old.Name, old.NotBefore, old.NotAfter = policy.RecordRevoked, "older", now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0)
			s.Records = append(s.Records, old)
		}, software},
		{"revoked, though the policy lists it itself", func(p *policy.Policy, s *policy.Snapshot) {
			p.TDX.Images = auth.Policy(now).TDX.Images
			s.Records[0].Status = policy.RecordRevoked
		}, software},
		{"revoked with an owner that the host set, and the policy leaves the owner open", func(p *policy.Policy, s *policy.Snapshot) {
			p.TDX.Images = auth.Policy(now).TDX.Images
			p.TDX.Images[0].MROWNER = policy.Want{Any: true}
			otherOwner(s)
			s.Records[0].Status = policy.RecordRevoked
		}, software},
		{"revoked with another owner than the policy demands", func(p *policy.Policy, s *policy.Snapshot) {
			p.TDX.Images = auth.Policy(now).TDX.Images
			otherOwner(s)
			s.Records[0].Status = policy.RecordRevoked
		}, software[1:]},
		{"current with another owner", func(_ *policy.Policy, s *policy.Snapshot) { otherOwner(s) }, software[:1]},
		{"revoked, though the policy accepts any", func(p *policy.Policy, s *policy.Snapshot) {
			p.Workload.Builds = policy.Allowed{AnyUnsafe: true, Allow: []policy.Named{}}
			s.Records[0].Status = policy.RecordRevoked
		}, software},
		{"unknown status", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[0].Status = 4 }, software},
		{"not yet valid", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[0].NotBefore = now.Add(time.Second) }, software},
		{"expired", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[0].NotAfter = now }, software},
		{"withdrawn", func(_ *policy.Policy, s *policy.Snapshot) { s.Records = s.Records[1:] }, software},
		{"unreadable", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[0].Document = []byte(`{}`) }, software},
		{"reference values as a manifest", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[0].Kind = policy.RecordManifest }, software},
		{"unknown kind", func(_ *policy.Policy, s *policy.Snapshot) { s.Records[0].Kind = 9 }, software},
		{"supplies no images", func(p *policy.Policy, _ *policy.Snapshot) {
			p.TDX.Images, p.SNP.Images = auth.Policy(now, "other").TDX.Images, auth.Policy(now, "other").SNP.Images
			p.Registries[0].Supplies = []policy.Supply{policy.Builds, policy.Configs, policy.Models}
		}, []string{attestation.CheckImage}},
		{"stale", func(_ *policy.Policy, s *policy.Snapshot) { s.Time = now.Add(-1000 * time.Second) }, []string{reading}},
		{"of the future", func(_ *policy.Policy, s *policy.Snapshot) { s.Time = now.Add(2 * time.Minute) }, []string{reading}},
		{"short time lock", func(_ *policy.Policy, s *policy.Snapshot) { s.Delay = 86399 }, []string{reading}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := published(t)
			c.change(p, s)
			v, err := attestation.NewVerifier(p, bundle(t, attestationtest.CollateralOptions{}), s)
			if err != nil {
				t.Fatal(err)
			}
			r := v.Appraise(now, workloadEvidence(t, attestationtest.NodeConfig{}), nonce)
			if got := failing(r); !slices.Equal(got, c.failed) {
				t.Errorf("failing %q, want %q", got, c.failed)
			}
		})
	}
}

// What is revoked with one host data is refused with any, where the policy leaves host data open.
func TestRevokedGuestHostData(t *testing.T) {
	p, s := published(t)
	p.SNP.Images = auth.Policy(now).SNP.Images
	s.Records[0].Status = policy.RecordRevoked
	for _, c := range []struct {
		open bool
		want []string
	}{{true, []string{attestation.CheckImage, attestation.CheckBuild, attestation.CheckConfig}}, {false, []string{attestation.CheckBuild, attestation.CheckConfig}}} {
		hostData := [32]byte{1}
		p.SNP.Images[0].HostData = policy.Want32{Any: c.open, Value: hostData}
		v, err := attestation.NewVerifier(p, bundle(t, attestationtest.CollateralOptions{}), s)
		if err != nil {
			t.Fatal(err)
		}
		r := v.Appraise(now, workloadEvidence(t, attestationtest.NodeConfig{SNP: true, HostData: hostData}), nonce)
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("open %v: failing %q, want %q", c.open, got, c.want)
		}
	}
}

// The earliest of all expiries is the result's.
func TestRecordExpiryEndsTheResult(t *testing.T) {
	p, s := published(t)
	s.Records[0].NotAfter = now.Add(5 * time.Minute)
	s.Records[1].NotAfter = now.Add(4 * time.Minute)
	longer := s.Records[1] // of two records that vouch for the same, the longer counts
	longer.Version, longer.NotAfter = "2", now.Add(6*time.Minute)
	s.Records = append(s.Records, longer)
	v, err := attestation.NewVerifier(p, bundle(t, attestationtest.CollateralOptions{}), s)
	if err != nil {
		t.Fatal(err)
	}
	if r := v.Appraise(now, workloadEvidence(t, attestationtest.NodeConfig{}), nonce); r.Err() != nil || !r.ValidUntil.Equal(now.Add(5*time.Minute)) {
		t.Errorf("%v, until %s", r.Err(), r.ValidUntil)
	}
}

func TestEveryRegistryMustBeRead(t *testing.T) {
	p, s := published(t)
	wrong := *s
	wrong.Network = -239
	b := bundle(t, attestationtest.CollateralOptions{})
	for name, given := range map[string][]*policy.Snapshot{"none": nil, "another network": {&wrong}, "nil": {nil}} {
		if _, err := attestation.NewVerifier(p, b, given...); !errors.Is(err, policy.ErrNoSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := attestation.NewVerifier(p, b, s, s); err == nil {
		t.Error("two snapshots of one registry were accepted")
	}
	if _, err := attestation.NewVerifier(p, b, &wrong, s); err != nil {
		t.Errorf("a snapshot that nobody asked for: %v", err)
	}
}
