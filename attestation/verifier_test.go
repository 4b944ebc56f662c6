package attestation_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"

	"github.com/bombyx-network/bombyx/attestation/internal/alone"
)

var (
	now   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	auth  = attestationtest.New("verifier tests")
	nonce = [32]byte{1, 2, 3}
)

func encodeKeyset(t testing.TB, change func(*keyset.Keyset)) []byte {
	t.Helper()
	k := &keyset.Keyset{KeyConfigs: []byte("key configurations"), ReceiptKey: make(ed25519.PublicKey, 32), NotAfter: now.Add(time.Hour / 2)}
	if change != nil {
		change(k)
	}
	b, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// current is the collateral that most tests need; a bundle is immutable.
var current = sync.OnceValues(func() (*collateral.Bundle, error) {
	encoded, err := auth.Collateral(attestationtest.CollateralOptions{Now: now})
	if err != nil {
		return nil, err
	}
	return collateral.Parse(encoded)
})

func bundle(t testing.TB, o attestationtest.CollateralOptions) *collateral.Bundle {
	t.Helper()
	if reflect.DeepEqual(o, attestationtest.CollateralOptions{}) {
		b, err := current()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if o.Now.IsZero() {
		o.Now = now
	}
	encoded, err := auth.Collateral(o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := collateral.Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func verifier(t testing.TB, o attestationtest.CollateralOptions, change func(*policy.Policy)) *attestation.Verifier {
	t.Helper()
	p := auth.Policy(now)
	if change != nil {
		change(p)
	}
	v, err := attestation.NewVerifier(p, bundle(t, o))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func node(t testing.TB, c attestationtest.NodeConfig) *attestationtest.Node {
	t.Helper()
	if c.Name == "" {
		c.Name = "a"
	}
	n, err := auth.NewNode(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func collect(t testing.TB, c attestationtest.NodeConfig) []byte {
	t.Helper()
	ev, err := node(t, c).Collect(t.Context(), nonce, encodeKeyset(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// failing lists the checks that stand in the way of a verdict.
func failing(r *attestation.Result) []string {
	var e *attestation.RejectedError
	if err := r.Err(); !errors.As(err, &e) {
		return nil
	}
	var ids []string
	for _, c := range e.Failed {
		ids = append(ids, c.ID)
	}
	if len(ids) != 1 || e.Failed[0].Status == check.Fail {
		failures.Failed(ids)
	}
	return ids
}

// failures is what the tests of this package saw fail.
var failures alone.Recorder

// Every check must have been seen to fail alone: see package alone.
func TestMain(m *testing.M) { failures.Main(m, nil) }

func TestVerified(t *testing.T) {
	for name, c := range map[string]attestationtest.NodeConfig{
		"CPU only":     {},
		"one GPU":      {GPUs: 1},
		"eight GPUs":   {GPUs: 8, Switches: 4},
		"processor CA": {ProcessorCA: true, GPUs: 1},
		"quote v5":     {QuoteVersion: 5},
		"SEV-SNP":      {SNP: true, GPUs: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := verifier(t, attestationtest.CollateralOptions{}, nil).Appraise(now, collect(t, c), nonce)
			if err := r.Err(); err != nil {
				t.Fatal(err)
			}
			if r.Verdict != attestation.Verified || (r.TCBStatus != "UpToDate" && !c.SNP) || r.Keyset == nil {
				t.Errorf("verdict %q, TCB %q, keyset %v", r.Verdict, r.TCBStatus, r.Keyset)
			}
			// The keyset expires before the policy's hour is over.
			if want := now.Add(time.Hour / 2); !r.ValidUntil.Equal(want) {
				t.Errorf("valid until %v, want %v", r.ValidUntil, want)
			}
			for i, k := range r.Checks {
				if k.Title == "" || k.Clause == "" || k.Status == check.Fail {
					t.Errorf("check %d: %+v", i+1, k)
				}
			}
		})
	}
}

// Every attack must be refused, and by the check that is there for it alone: a second line of defence must not hide that
// the first one is gone.
func TestRefusedForOneReason(t *testing.T) {
	type options struct {
		at         time.Time
		nonce      [32]byte
		collateral attestationtest.CollateralOptions
		policy     func(*policy.Policy)
	}
	base := attestationtest.NodeConfig{GPUs: 1}
	for _, c := range []struct {
		name     string
		evidence func(t *testing.T) []byte
		options  options
		want     []string
	}{
		{"replayed nonce", func(t *testing.T) []byte { return collect(t, base) }, options{nonce: [32]byte{9}}, []string{"composite.nonce"}},
		{"debug TD", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, Debug: true})
		}, options{}, []string{"policy.debug"}},
		{"out-of-date platform behind an up-to-date module", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, Platform: attestationtest.OutOfDate})
		}, options{}, []string{"policy.tcb.status"}},
		{"out-of-date module on an up-to-date platform", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, Module: attestationtest.OutOfDate})
		}, options{}, []string{"policy.tcb.status"}},
		{"out-of-date Quoting Enclave", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, QE: attestationtest.OutOfDate})
		}, options{}, []string{"policy.tcb.status"}},
		{"revoked TCB", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, Platform: attestationtest.Revoked})
		}, options{}, []string{"policy.tcb.status"}},
		{"no TCB level", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, Platform: attestationtest.NotSupported})
		}, options{}, []string{"policy.tcb.status"}},
		{"migratable TD", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, TDAttributes: 1<<28 | 1<<29})
		}, options{}, []string{"policy.attributes"}},
		{"TD without SEPT_VE_DISABLE", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, TDAttributes: 1 << 30})
		}, options{}, []string{"policy.attributes"}},
		{"unknown TD attribute", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, TDAttributes: 1<<28 | 1<<40})
		}, options{}, []string{"policy.attributes"}},
		{"unlisted image", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, Image: "evil"})
		}, options{}, []string{"policy.image"}},
		{"revoked PCK", func(t *testing.T) []byte { return collect(t, base) },
			options{collateral: attestationtest.CollateralOptions{RevokedNodes: []*attestationtest.Node{node(t, base)}}}, []string{"dcap.revocation"}},
		{"revoked PCK under the processor CA", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{ProcessorCA: true})
		}, options{collateral: attestationtest.CollateralOptions{RevokedNodes: []*attestationtest.Node{node(t, attestationtest.NodeConfig{ProcessorCA: true})}}},
			[]string{"dcap.revocation"}},
		{"revoked CA", func(t *testing.T) []byte { return collect(t, base) },
			options{collateral: attestationtest.CollateralOptions{RevokedCA: true}}, []string{"dcap.revocation"}},
		{"rolled-back collateral", func(t *testing.T) []byte { return collect(t, base) },
			options{collateral: attestationtest.CollateralOptions{TCBEvaluation: 19}}, []string{"policy.tcb.freshness"}},
		{"expired collateral", func(t *testing.T) []byte { return collect(t, base) },
			options{collateral: attestationtest.CollateralOptions{Now: now.Add(-attestationtest.Lifetime)}},
			[]string{"dcap.crl.root", "dcap.crl.pck", "dcap.tcbinfo.validity", "dcap.qeid.validity", "dcap.revocation"}},
		{"expired keyset", func(t *testing.T) []byte {
			ev, err := node(t, base).Collect(t.Context(), nonce, encodeKeyset(t, func(k *keyset.Keyset) { k.NotAfter = now }))
			if err != nil {
				t.Fatal(err)
			}
			return ev
		}, options{}, []string{"composite.keyset"}},
		{"expired policy", func(t *testing.T) []byte { return collect(t, base) },
			options{policy: func(p *policy.Policy) { p.NotAfter = now }}, []string{"policy.expiry"}},
		{"GPU evidence of another node, same nonce", func(t *testing.T) []byte {
			// The other node answered the same client nonce, but for its own keys; the TD is genuine and plays along.
			other := node(t, attestationtest.NodeConfig{Name: "b", GPUs: 1})
			keys := encodeKeyset(t, func(k *keyset.Keyset) { k.KeyConfigs = []byte("other keys") })
			foreign := other.Devices(attestation.DeviceNonce(attestation.Statement(nonce, keys)))
			ev, err := node(t, base).CollectWith(nonce, encodeKeyset(t, nil), foreign)
			if err != nil {
				t.Fatal(err)
			}
			return ev
		}, options{}, []string{"gpu0.nvidia.nonce"}},
		{"GPU evidence replaced by the host", func(t *testing.T) []byte {
			// Even a GPU that answers the right statement is refused when the TD did not choose it.
			keys := encodeKeyset(t, nil)
			other := node(t, attestationtest.NodeConfig{Name: "b", GPUs: 1})
			e, err := attestation.ParseEvidence(collect(t, base))
			if err != nil {
				t.Fatal(err)
			}
			e.Devices = other.Devices(attestation.DeviceNonce(attestation.Statement(nonce, keys)))
			return encode(t, e)
		}, options{}, []string{"composite.report_data"}},
		{"GPUs in another order", func(t *testing.T) []byte {
			e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}))
			if err != nil {
				t.Fatal(err)
			}
			e.Devices[0], e.Devices[1] = e.Devices[1], e.Devices[0]
			return encode(t, e)
		}, options{}, []string{"composite.report_data"}},
		{"keyset replaced by the host", func(t *testing.T) []byte {
			e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{}))
			if err != nil {
				t.Fatal(err)
			}
			e.Keyset = encodeKeyset(t, func(k *keyset.Keyset) { k.KeyConfigs = []byte("host's keys") })
			return encode(t, e)
		}, options{}, []string{"composite.report_data"}},
		{"one GPU counted twice", func(t *testing.T) []byte {
			n := node(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
			keys := encodeKeyset(t, nil)
			d := n.Devices(attestation.DeviceNonce(attestation.Statement(nonce, keys)))
			d[1] = d[0]
			ev, err := n.CollectWith(nonce, keys, d)
			if err != nil {
				t.Fatal(err)
			}
			return ev
		}, options{}, []string{"nvidia.node.distinct", "nvidia.node.topology"}},
		{"GPU left out", func(t *testing.T) []byte {
			n := node(t, attestationtest.NodeConfig{GPUs: 3, Switches: 1})
			keys := encodeKeyset(t, nil)
			d := n.Devices(attestation.DeviceNonce(attestation.Statement(nonce, keys)))
			ev, err := n.CollectWith(nonce, keys, d[1:])
			if err != nil {
				t.Fatal(err)
			}
			return ev
		}, options{}, []string{"nvidia.node.topology"}},
		{"too few GPUs", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
		}, options{policy: func(p *policy.Policy) { p.Devices.GPU.MinCount = 8 }}, []string{"policy.devices.mode"}},
		{"no GPU where one is wanted", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{}) },
			options{policy: func(p *policy.Policy) { p.Devices.Modes = []string{"single-gpu"} }}, []string{"policy.devices.mode"}},
		{"several GPUs in single-GPU mode", func(t *testing.T) []byte {
			e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}))
			if err != nil {
				t.Fatal(err)
			}
			e.Mode = attestation.ModeSingleGPU
			return encode(t, e)
		}, options{}, []string{"policy.devices.mode"}},
		{"GPU of a protected-PCIe node passed off as single", func(t *testing.T) []byte {
			n := node(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
			keys := encodeKeyset(t, nil)
			ev, err := n.CollectWith(nonce, keys, n.Devices(attestation.DeviceNonce(attestation.Statement(nonce, keys)))[:1])
			if err != nil {
				t.Fatal(err)
			}
			e, err := attestation.ParseEvidence(ev)
			if err != nil {
				t.Fatal(err)
			}
			e.Mode = attestation.ModeSingleGPU
			return encode(t, e)
		}, options{}, []string{"gpu0.policy.cc_mode", "nvidia.node.topology"}},
		{"GPUs in protected-PCIe mode that name no switch", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 2, Unwired: true})
		}, options{policy: func(p *policy.Policy) { p.Devices.Switch.MinCount = 0 }}, []string{"nvidia.node.topology"}},
		{"quote cut short", func(t *testing.T) []byte {
			e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{}))
			if err != nil {
				t.Fatal(err)
			}
			e.CPU.Quote = e.CPU.Quote[:len(e.CPU.Quote)-1]
			return encode(t, e)
		}, options{}, []string{"dcap.parse"}},
		{"enclave in place of a TD", func(t *testing.T) []byte {
			e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{}))
			if err != nil {
				t.Fatal(err)
			}
			e.CPU.Quote = enclaveQuote(e.CPU.Quote)
			return encode(t, e)
		}, options{policy: acceptEnclaves}, []string{"composite.cpu"}},
		{"GPU in the mode for several, alone", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, MultiPass: true})
		}, options{}, []string{"gpu0.policy.cc_mode"}},
		{"SMT where it is not accepted", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{}) },
			options{policy: func(p *policy.Policy) { p.TDX.TCB.AllowSMT = false }}, []string{"policy.platform"}},
		{"driver below the floor", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, Driver: "580.99"})
		}, options{collateral: attestationtest.CollateralOptions{Drivers: []string{"580.99"}}}, []string{"gpu0.policy.driver"}},
		{"VBIOS below the floor", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{GPUs: 1, VBIOS: "96.00.9F.00.01"})
		}, options{collateral: attestationtest.CollateralOptions{VBIOS: []string{"96.00.9F.00.01"}}}, []string{"gpu0.policy.vbios"}},
		{"unlisted chip", func(t *testing.T) []byte { return collect(t, base) },
			options{policy: func(p *policy.Policy) {
				p.Devices.GPU.Models = []string{"GB100"}
			}}, []string{"gpu0.policy.model"}},
		{"unlisted build", func(t *testing.T) []byte { return collect(t, base) },
			options{policy: func(p *policy.Policy) { p.Workload.Builds = listed() }}, []string{"policy.workload.build"}},
		{"unlisted configuration", func(t *testing.T) []byte { return collect(t, base) },
			options{policy: func(p *policy.Policy) { p.Workload.Configs = listed() }}, []string{"policy.workload.config"}},
		{"unlisted model", func(t *testing.T) []byte { return collect(t, base) },
			options{policy: func(p *policy.Policy) { p.Workload.Models = listed() }}, []string{"policy.workload.model"}},
		{"GPU without OCSP answers where they are required", func(t *testing.T) []byte { return collect(t, base) },
			options{policy: requireOCSP}, []string{"gpu0.nvidia.ocsp.device", "gpu0.nvidia.ocsp.rim.driver", "gpu0.nvidia.ocsp.rim.vbios"}},
		{"revoked GPU", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true, GPUs: 1}) },
			options{policy: requireOCSP, collateral: attestationtest.CollateralOptions{
				OCSP: []*attestationtest.Node{node(t, base)}, RevokedNodes: []*attestationtest.Node{node(t, base)}}}, []string{"gpu0.nvidia.ocsp.device"}},
		{"GPU on hold", func(t *testing.T) []byte { return collect(t, base) },
			options{policy: requireOCSP, collateral: attestationtest.CollateralOptions{
				OCSP: []*attestationtest.Node{node(t, base)}, HeldNodes: []*attestationtest.Node{node(t, base)}}}, []string{"gpu0.nvidia.ocsp.device"}},
		{"GPU on hold where OCSP is not required", func(t *testing.T) []byte { return collect(t, base) },
			options{collateral: attestationtest.CollateralOptions{
				OCSP: []*attestationtest.Node{node(t, base)}, HeldNodes: []*attestationtest.Node{node(t, base)}}}, []string{"gpu0.nvidia.ocsp.device"}},
		{"SNP: debug guest", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true, Debug: true}) },
			options{}, []string{"policy.debug"}},
		{"switch firmware below the floor", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}) },
			options{policy: func(p *policy.Policy) { p.Devices.Switch.BIOS = "97.10.00.00.00" }}, []string{"switch0.policy.vbios"}},
		{"switch of another model", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1}) },
			options{policy: func(p *policy.Policy) { p.Devices.Switch.Models = []string{"LS_20"} }}, []string{"switch0.policy.model"}},
		{"SNP: guest that allows SMT", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{policy: func(p *policy.Policy) { p.SNP.AllowSMT = false }}, []string{"policy.attributes"}},
		{"SNP: no ciphertext hiding", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{policy: func(p *policy.Policy) { p.SNP.RequireCiphertextHiding = true }}, []string{"policy.platform"}},
		{"SNP: less privileged level", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true, VMPL: 2}) },
			options{}, []string{"policy.vmpl"}},
		{"SNP: TCB below the floor", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{SNP: true, Platform: attestationtest.OutOfDate})
		}, options{}, []string{"policy.tcb.status"}},
		{"SNP: mitigation not stated", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{policy: func(p *policy.Policy) { p.SNP.RequireMitigations = map[string][]int{"Genoa": {0}} }}, []string{"policy.mitigations"}},
		{"SNP: provider's key", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true, VLEK: true}) },
			options{}, []string{"policy.key"}},
		{"SNP: unlisted image", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true, Image: "evil"}) },
			options{}, []string{"policy.image"}},
		{"SNP: revoked VCEK", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{collateral: attestationtest.CollateralOptions{RevokedNodes: []*attestationtest.Node{node(t, attestationtest.NodeConfig{SNP: true})}}},
			[]string{"snp.revocation"}},
		{"SNP: revoked ASK", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{collateral: attestationtest.CollateralOptions{RevokedCA: true}}, []string{"snp.revocation"}},
		{"SNP: expired CRL", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{collateral: attestationtest.CollateralOptions{Now: now.Add(-attestationtest.Lifetime)}}, []string{"snp.crl", "snp.revocation"}},
		{"SNP: replayed nonce", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{nonce: [32]byte{9}}, []string{"composite.nonce"}},
		{"SNP: report of another node's keys", func(t *testing.T) []byte {
			e, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{SNP: true}))
			if err != nil {
				t.Fatal(err)
			}
			e.Keyset = encodeKeyset(t, func(k *keyset.Keyset) { k.KeyConfigs = []byte("host's keys") })
			return encode(t, e)
		}, options{}, []string{"composite.report_data"}},
		{"SNP where only TDX is accepted", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{policy: func(p *policy.Policy) { p.SNP = nil }}, []string{"composite.cpu"}},
		{"TDX where only SNP is accepted", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{}) },
			options{policy: func(p *policy.Policy) { p.TDX = nil }}, []string{"composite.cpu"}},
		{"machine on no list", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{}) },
			options{policy: func(p *policy.Policy) {
				p.Hardware.CPU, p.Hardware.ListKeys = policy.Required, []policy.PublicKey{{1}}
			}}, []string{"policy.hardware"}},
		{"denied machine", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{}) },
			options{policy: func(p *policy.Policy) {
				p.Hardware.Deny = []policy.Machine{policy.NameMachine(policy.MachinePPID, node(t, attestationtest.NodeConfig{}).Identity())}
			}}, []string{"policy.hardware"}},
		{"denied AMD chip", func(t *testing.T) []byte { return collect(t, attestationtest.NodeConfig{SNP: true}) },
			options{policy: func(p *policy.Policy) {
				p.Hardware.Deny = []policy.Machine{policy.NameMachine(policy.MachineChipID, node(t, attestationtest.NodeConfig{SNP: true}).Identity())}
			}}, []string{"policy.hardware"}},
		{"tolerated status, expired", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{Platform: attestationtest.SWHardeningNeeded})
		}, options{policy: tolerate(attestationtest.SWHardeningNeeded, now, "INTEL-SA-00615")}, []string{"policy.tcb.status"}},
		{"tolerated status, another advisory", func(t *testing.T) []byte {
			return collect(t, attestationtest.NodeConfig{Platform: attestationtest.OutOfDate})
		}, options{policy: tolerate(attestationtest.OutOfDate, now.Add(time.Hour), "INTEL-SA-00837")}, []string{"policy.tcb.status"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.options.at.IsZero() {
				c.options.at = now
			}
			if c.options.nonce == [32]byte{} {
				c.options.nonce = nonce
			}
			r := verifier(t, c.options.collateral, c.options.policy).Appraise(c.options.at, c.evidence(t), c.options.nonce)
			if r.Verdict != attestation.Rejected || r.Keyset != nil || !r.ValidUntil.IsZero() {
				t.Errorf("verdict %q, keyset %v, valid until %v", r.Verdict, r.Keyset, r.ValidUntil)
			}
			if got := failing(r); !slices.Equal(got, c.want) {
				t.Errorf("refused by %q, want %q\n%v", got, c.want, r.Err())
			}
		})
	}
}

// enclaveQuote cuts a TD report 1.0 down to an enclave's, and says so: nothing about it verifies.
func enclaveQuote(td []byte) []byte {
	const header, tdReport, enclaveReport = 48, 584, 384
	q := slices.Concat(td[:header+enclaveReport], td[header+tdReport:])
	clear(q[4:8])
	return q
}

func acceptEnclaves(p *policy.Policy) {
	p.SGX = &policy.SGX{TCB: p.TDX.TCB, Enclaves: []policy.SGXEnclave{{Name: "any", Reason: "test", MRENCLAVE: policy.Want32{Any: true}, MRSIGNER: policy.Want32{Any: true}}}}
}

func requireOCSP(p *policy.Policy) {
	p.Devices.GPU.OCSP, p.Devices.Switch.OCSP = policy.Required, policy.Required
}

func listed() policy.Allowed {
	return policy.Allowed{Allow: []policy.Named{{Name: "other", Reason: "test", Digest: [32]byte{7}}}}
}

func tolerate(status string, until time.Time, advisories ...string) func(*policy.Policy) {
	return func(p *policy.Policy) {
		p.TDX.TCB.Tolerated = []policy.Tolerance{{Status: status, Until: until, Advisories: advisories, Reason: "test"}}
	}
}

func encode(t *testing.T, e *attestation.Evidence) []byte {
	t.Helper()
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// With good answers of the responder about everything, OCSP can be required; the result then ends with the answers.
func TestOCSP(t *testing.T) {
	c := attestationtest.NodeConfig{GPUs: 2, Switches: 1}
	v := verifier(t, attestationtest.CollateralOptions{OCSP: []*attestationtest.Node{node(t, c)}}, requireOCSP)
	if err := v.Appraise(now, collect(t, c), nonce).Err(); err != nil {
		t.Fatal(err)
	}
	// Two days later the answers are stale, whatever else has not expired.
	keys := encodeKeyset(t, func(k *keyset.Keyset) { k.NotAfter = now.AddDate(0, 0, 3) })
	ev, err := node(t, c).Collect(t.Context(), nonce, keys)
	if err != nil {
		t.Fatal(err)
	}
	r := v.Appraise(now.AddDate(0, 0, 2), ev, nonce)
	for _, id := range failing(r) {
		if !strings.Contains(id, ".nvidia.ocsp.") {
			t.Errorf("refused by %s", id)
		}
	}
	if r.Err() == nil {
		t.Error("stale OCSP answers were accepted")
	}
}

// A machine on a signed list, or with a Proof of Cloud token for this very quote, passes where machines must be known.
func TestHardwareLists(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	pub := policy.PublicKey(key.Public().(ed25519.PublicKey))
	c := attestationtest.NodeConfig{GPUs: 1}
	n := node(t, c)
	ev := collect(t, c)
	e, err := attestation.ParseEvidence(ev)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := nvidia.ParseChain(e.Devices[0].Certificates, nvidia.ChainLength)
	if err != nil {
		t.Fatal(err)
	}
	cpu, gpu := policy.NameMachine(policy.MachinePPID, n.Identity()), policy.Machine{Kind: policy.MachineGPU}
	identity := sha256.Sum256(chain[1].Raw)
	gpu.ID = sha256.Sum256(identity[:])
	list := func(denied []policy.Machine, machines ...policy.ListedMachine) []byte {
		l := policy.HardwareList{Version: 1, Issuer: "test", Issued: now.Add(-time.Hour), Expires: now.Add(time.Minute), Machines: machines, Denied: denied}
		b, err := l.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	token := func(quote []byte) []byte {
		b64 := base64.RawURLEncoding
		signed := b64.EncodeToString(fmt.Appendf(nil, `{"alg":"EdDSA","typ":"JWT","kid":"%x"}`, pub)) + "." +
			b64.EncodeToString(fmt.Appendf(nil, `{"quote_hash":"%x","machine_id":"%x","label":"rack"}`, sha256.Sum256(quote), cpu.ID))
		return []byte(signed + "." + b64.EncodeToString(ed25519.Sign(key, []byte(signed))))
	}
	appraise := func(item []byte, rules policy.Hardware) *attestation.Result {
		t.Helper()
		b, err := collateral.New(append(auth.Endorsements(attestationtest.CollateralOptions{Now: now}).Inputs(), item)...)
		if err != nil {
			t.Fatal(err)
		}
		p := auth.Policy(now)
		rules.MinLevel, rules.Deny = 1, []policy.Machine{}
		p.Hardware = rules
		v, err := attestation.NewVerifier(p, b)
		if err != nil {
			t.Fatal(err)
		}
		return v.Appraise(now, ev, nonce)
	}
	listed := []policy.ListedMachine{{Kind: cpu.Kind, ID: cpu.ID, Level: 1, Label: "rack"}, {Kind: gpu.Kind, ID: gpu.ID, Level: 1, Label: "rack"}}
	lists := policy.Hardware{CPU: policy.Required, GPU: policy.Required, ListKeys: []policy.PublicKey{pub}, ProofOfCloudKeys: []policy.PublicKey{}}
	r := appraise(list([]policy.Machine{}, listed...), lists)
	if err := r.Err(); err != nil || !r.ValidUntil.Equal(now.Add(time.Minute)) {
		t.Errorf("%v, valid until %v", err, r.ValidUntil)
	}
	if got := failing(appraise(list([]policy.Machine{}, listed[0]), lists)); !slices.Equal(got, []string{"gpu0.policy.hardware"}) {
		t.Errorf("unlisted GPU: refused by %q", got)
	}
	lists.GPU = policy.SkipUnsafe
	if got := failing(appraise(list([]policy.Machine{gpu}, listed...), lists)); !slices.Equal(got, []string{"gpu0.policy.hardware"}) {
		t.Errorf("denied GPU where none must be listed: refused by %q", got)
	}
	tokens := policy.Hardware{CPU: policy.Required, GPU: policy.SkipUnsafe, ListKeys: []policy.PublicKey{}, ProofOfCloudKeys: []policy.PublicKey{pub}}
	if err := appraise(token(e.CPU.Quote), tokens).Err(); err != nil {
		t.Error(err)
	}
	if r := appraise(token([]byte("another quote")), tokens); !slices.Equal(failing(r), []string{"policy.hardware"}) || !errors.Is(r.Err(), check.ErrMissing) {
		t.Errorf("token for another quote: refused by %q", failing(r))
	}
}

// One Verifier serves many goroutines, each with its own answer.
func TestConcurrent(t *testing.T) {
	v := verifier(t, attestationtest.CollateralOptions{}, nil)
	good, bad := collect(t, attestationtest.NodeConfig{GPUs: 1}), collect(t, attestationtest.NodeConfig{GPUs: 1, Debug: true})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ev := good
			if i%2 == 1 {
				ev = bad
			}
			for range 5 {
				if err := v.Appraise(now, ev, nonce).Err(); (err == nil) != (i%2 == 0) {
					t.Errorf("goroutine %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

// A tolerated status is accepted, and the result ends with the tolerance.
func TestTolerated(t *testing.T) {
	until := now.Add(10 * time.Minute)
	v := verifier(t, attestationtest.CollateralOptions{}, tolerate(attestationtest.OutOfDate, until, "INTEL-SA-00837", "INTEL-SA-00960"))
	r := v.Appraise(now, collect(t, attestationtest.NodeConfig{Platform: attestationtest.OutOfDate}), nonce)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if r.TCBStatus != "OutOfDate" || !r.ValidUntil.Equal(until) {
		t.Errorf("TCB %q, valid until %v", r.TCBStatus, r.ValidUntil)
	}
}

// Missing collateral is told apart from a refusal.
func TestMissingCollateral(t *testing.T) {
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	for name, c := range map[string]struct {
		drop func()
		want string
	}{
		"TCB info":    {func() { e.TCBInfo = nil }, "TCB info"},
		"QE identity": {func() { e.QEIdentity = nil }, "QE identity"},
		"root CRL":    {func() { e.RootCRL = nil }, "root CA CRL"},
		"PCK CRL":     {func() { e.PlatformCRL = nil }, "PCK CRL"},
		"RIMs":        {func() { e.RIMs = nil }, "RIM"},
	} {
		t.Run(name, func(t *testing.T) {
			e = auth.Endorsements(attestationtest.CollateralOptions{Now: now})
			c.drop()
			var inputs [][]byte
			for _, in := range e.Inputs() {
				if in != nil {
					inputs = append(inputs, in)
				}
			}
			b, err := collateral.New(inputs...)
			if err != nil {
				t.Fatal(err)
			}
			v, err := attestation.NewVerifier(auth.Policy(now), b)
			if err != nil {
				t.Fatal(err)
			}
			r := v.Appraise(now, collect(t, attestationtest.NodeConfig{GPUs: 1}), nonce)
			if err := r.Err(); !errors.Is(err, check.ErrMissing) {
				t.Errorf("error %v, want ErrCollateralMissing", err)
			}
			if !strings.Contains(strings.Join(r.Missing, "; "), c.want) {
				t.Errorf("missing %q, want %q", r.Missing, c.want)
			}
		})
	}
}

// Expired collateral is named, and told from what else may be wrong. What is not in force yet has not expired.
func TestExpiredCollateral(t *testing.T) {
	both := node(t, attestationtest.NodeConfig{GPUs: 1})
	intel := []string{"root CA CRL", "PCK CRL", "TCB info", "QE identity"}
	published := attestationtest.CollateralOptions{Now: now, OCSP: []*attestationtest.Node{both}}
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		config attestationtest.NodeConfig
		from   time.Time // of the collateral
		stale  []string
		only   bool
	}{
		"in force":        {attestationtest.NodeConfig{}, now, nil, false},
		"TDX":             {attestationtest.NodeConfig{}, now.Add(-60 * day), intel, true},
		"SEV-SNP":         {attestationtest.NodeConfig{SNP: true}, now.Add(-60 * day), []string{`CRL of "ARK-Genoa"`}, true},
		"debug TDX":       {attestationtest.NodeConfig{Debug: true}, now.Add(-60 * day), intel, false},
		"OutOfDate TDX":   {attestationtest.NodeConfig{Platform: "OutOfDate"}, now.Add(-60 * day), intel, false},
		"not yet, TDX":    {attestationtest.NodeConfig{}, now.Add(day), nil, false},
		"not yet SEV-SNP": {attestationtest.NodeConfig{SNP: true}, now.Add(day), nil, false},
		"OCSP":            {attestationtest.NodeConfig{GPUs: 1}, now.Add(-60 * day), append(slices.Clone(intel), "OCSP answer about "), true},
	} {
		t.Run(name, func(t *testing.T) {
			published.Now = c.from
			v, err := attestation.NewVerifier(auth.Policy(now), bundle(t, published))
			if err != nil {
				t.Fatal(err)
			}
			r := v.Appraise(now, collect(t, c.config), nonce)
			if errors.Is(r.Err(), check.ErrStale) != c.only || errors.Is(r.Err(), check.ErrMissing) {
				t.Errorf("error %v, stale %q", r.Err(), r.Stale)
			}
			if len(c.stale) > len(r.Stale) || len(c.stale) == 0 && len(r.Stale) != 0 {
				t.Fatalf("stale %q, want %q", r.Stale, c.stale)
			}
			for i, want := range c.stale {
				if !strings.HasPrefix(r.Stale[i], want) {
					t.Errorf("stale %q, want %q", r.Stale, c.stale)
				}
			}
		})
	}
}

// No Result but that of a whole appraisal may look verified.
func TestNothingLooksVerified(t *testing.T) {
	for name, r := range map[string]*attestation.Result{
		"nil":            nil,
		"zero":           {},
		"hand-made":      {Verdict: attestation.Verified, Checks: []check.Check{{ID: "x", Status: check.Pass, Required: true}}},
		"not a document": verifier(t, attestationtest.CollateralOptions{}, nil).Appraise(now, []byte("{}"), nonce),
		"empty":          verifier(t, attestationtest.CollateralOptions{}, nil).Appraise(now, nil, nonce),
	} {
		if r.Err() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r := verifier(t, attestationtest.CollateralOptions{}, nil).Appraise(now, collect(t, attestationtest.NodeConfig{}), nonce)
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	r.Checks[3].Status = ""
	if r.Err() == nil {
		t.Error("a check without an outcome was taken for a pass")
	}
}

// Mock evidence must never pass under a policy that pins the real roots.
func TestMockIsNotTrusted(t *testing.T) {
	other := attestationtest.New("another authority")
	b, err := collateral.New(append(other.Endorsements(attestationtest.CollateralOptions{Now: now}).Inputs(),
		auth.Endorsements(attestationtest.CollateralOptions{Now: now}).Inputs()...)...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(other.Policy(now), b)
	if err != nil {
		t.Fatal(err)
	}
	r := v.Appraise(now, collect(t, attestationtest.NodeConfig{GPUs: 1}), nonce)
	if got := failing(r); !slices.Contains(got, "dcap.chain") || !slices.Contains(got, "gpu0.nvidia.chain") {
		t.Errorf("refused by %q", got)
	}
}

// AMD publishes two lists for one root, beside VCEKs and beside VLEKs: the newer does not hide what the other revokes.
func TestBothListsRevoke(t *testing.T) {
	ev := collect(t, attestationtest.NodeConfig{SNP: true})
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	other := auth.Endorsements(attestationtest.CollateralOptions{Now: now.AddDate(0, 0, -1), RevokedCA: true})
	for want, inputs := range map[bool][][]byte{true: e.Inputs(), false: append(e.Inputs(), other.AMDCRL)} {
		b, err := collateral.New(inputs...)
		if err != nil {
			t.Fatal(err)
		}
		v, err := attestation.NewVerifier(auth.Policy(now), b)
		if err != nil {
			t.Fatal(err)
		}
		r := v.Appraise(now, ev, nonce)
		if c := r.Check(snp.CheckRevocation); (r.Err() == nil) != want || (c.Status == check.Pass) != want {
			t.Errorf("%v: %+v", r.Err(), c)
		}
	}
}

// Keys that cannot be read are no keys, whatever the quote binds.
func TestMalformedKeyset(t *testing.T) {
	ev, err := node(t, attestationtest.NodeConfig{}).CollectWith(nonce, []byte("keys"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := verifier(t, attestationtest.CollateralOptions{}, nil).Appraise(now, ev, nonce)
	if got := failing(r); !slices.Equal(got, []string{attestation.CheckKeyset}) || r.Keyset != nil {
		t.Errorf("refused by %q, keys %v", got, r.Keyset)
	}
	good := verifier(t, attestationtest.CollateralOptions{}, nil).Appraise(now, collect(t, attestationtest.NodeConfig{}), nonce)
	encoded := encodeKeyset(t, nil)
	if digest := keyset.Digest(encoded); good.Claims["keyset.sha256"] != fmt.Sprintf("%x", digest) || good.Claims["keyset.not_after"] != now.Add(time.Hour/2).Format(time.RFC3339) {
		t.Errorf("claims %v", good.Claims)
	}
}

// The endorsement key is the one that the report names: by its kind, its chip and its TCB.
func TestEndorsementKeyInBundle(t *testing.T) {
	parts := func(c attestationtest.NodeConfig) *attestation.CPU {
		c.SNP = true
		e, err := attestation.ParseEvidence(collect(t, c))
		if err != nil {
			t.Fatal(err)
		}
		return &e.CPU
	}
	own, chip := parts(attestationtest.NodeConfig{}), parts(attestationtest.NodeConfig{Name: "b"})
	tcb, vlek := parts(attestationtest.NodeConfig{Platform: attestationtest.OutOfDate}), parts(attestationtest.NodeConfig{VLEK: true})
	for _, c := range []struct {
		name   string
		bundle [][]byte
		report *attestation.CPU
		found  bool
	}{
		{"its own among others", [][]byte{chip.Certificates, tcb.Certificates, vlek.Certificates, own.Certificates}, own, true},
		{"a VLEK among others", [][]byte{own.Certificates, chip.Certificates, vlek.Certificates}, vlek, true},
		{"that of another chip", [][]byte{chip.Certificates}, own, false},
		{"that of another TCB", [][]byte{tcb.Certificates}, own, false},
		{"one of another kind", [][]byte{vlek.Certificates}, own, false},
	} {
		e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
		b, err := collateral.New(append(e.Inputs(), c.bundle...)...)
		if err != nil {
			t.Fatal(err)
		}
		p := auth.Policy(now)
		p.SNP.Keys = []string{"VCEK", "VLEK"}
		v, err := attestation.NewVerifier(p, b)
		if err != nil {
			t.Fatal(err)
		}
		r, err := v.AppraiseSaved(now, c.report.Quote, attestation.Expected{})
		if err != nil {
			t.Fatal(err)
		}
		if c.found != (r.Err() == nil) || !c.found && !errors.Is(r.Err(), check.ErrMissing) {
			t.Errorf("%s: %v", c.name, r.Err())
		}
	}
	// Certificates come in PEM or DER, and nothing else does.
	block, rest := pem.Decode(own.Certificates)
	der := bytes.Clone(block.Bytes)
	for len(bytes.TrimSpace(rest)) > 0 {
		block, rest = pem.Decode(rest)
		der = append(der, block.Bytes...)
	}
	v := verifier(t, attestationtest.CollateralOptions{}, nil)
	for name, c := range map[string]struct {
		certificates []byte
		want         []string
	}{
		"PEM":             {own.Certificates, nil},
		"space behind":    {append(bytes.Clone(own.Certificates), " \n"...), nil},
		"DER":             {der, nil},
		"DER cut short":   {der[:len(der)-1], []string{snp.CheckChain}},
		"text before":     {append([]byte("x"), own.Certificates...), []string{snp.CheckChain}},
		"text behind":     {append(bytes.Clone(own.Certificates), 'x'), []string{snp.CheckChain}},
		"a key":           {bytes.ReplaceAll(own.Certificates, []byte("CERTIFICATE"), []byte("PRIVATE KEY")), []string{snp.CheckChain}},
		"a longer name":   {bytes.ReplaceAll(own.Certificates, []byte("CERTIFICATE"), []byte("CERTIFICATES")), []string{snp.CheckChain}},
		"larger than any": {append(bytes.Repeat([]byte(" "), 16<<10), own.Certificates...), nil},
	} {
		r, err := v.AppraiseSaved(now, own.Quote, attestation.Expected{Certificates: c.certificates})
		if err != nil {
			t.Fatal(err)
		}
		if got := failing(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: refused by %q, want %q", name, got, c.want)
		}
	}
}

// A verifier is made of a policy that holds and of roots that are roots.
func TestNewVerifierRefusals(t *testing.T) {
	leaf, err := attestation.ParseEvidence(collect(t, attestationtest.NodeConfig{SNP: true}))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(leaf.CPU.Certificates)
	q, err := dcap.ParseQuote(node(t, attestationtest.NodeConfig{}).Quote([64]byte{}))
	if err != nil {
		t.Fatal(err)
	}
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	b, err := collateral.New(append(e.Inputs(), block.Bytes, q.PCKChain[0])...)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*policy.Policy)
		want   string
	}{
		"good":                {func(*policy.Policy) {}, ""},
		"AMD alone":           {func(p *policy.Policy) { p.TDX, p.SGX, p.Roots.Intel = nil, nil, []policy.Hash{} }, ""},
		"Intel alone":         {func(p *policy.Policy) { p.SNP, p.Roots.AMD = nil, []policy.Hash{}; withoutDevices(p) }, ""},
		"policy of version 9": {func(p *policy.Policy) { p.Version = 9 }, "this program reads 1"},
		"policy without TCB":  {func(p *policy.Policy) { p.SNP.MinTCB = nil }, "min_tcb"},
		"Intel root unknown":  {func(p *policy.Policy) { p.Roots.Intel[0][0] ^= 1 }, "pins in roots.intel"},
		"AMD root unknown":    {func(p *policy.Policy) { p.Roots.AMD[0][0] ^= 1 }, "pins in roots.amd"},
		"Intel leaf as root":  {func(p *policy.Policy) { p.Roots.Intel[0] = sha256.Sum256(q.PCKChain[0]) }, "dcap: "},
		"AMD leaf as root":    {func(p *policy.Policy) { p.Roots.AMD[0] = sha256.Sum256(block.Bytes) }, "snp: "},
	} {
		p := auth.Policy(now)
		c.change(p)
		if _, err := attestation.NewVerifier(p, b); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What is not there, or cannot be read, stands in the way by itself; nothing that looks for it stumbles.
func TestBrokenParts(t *testing.T) {
	n := node(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1})
	ks := encodeKeyset(t, nil)
	devices := n.Devices(attestation.DeviceNonce(attestation.Statement(nonce, ks)))
	devices[0].Report = []byte("no report")
	ev, err := n.CollectWith(nonce, ks, devices)
	if err != nil {
		t.Fatal(err)
	}
	r := verifier(t, attestationtest.CollateralOptions{}, nil).Appraise(now, ev, nonce)
	if c := r.Check("gpu0." + nvidia.CheckParse); r.Err() == nil || c == nil || c.Status != check.Fail {
		t.Errorf("%v, %+v", r.Err(), c)
	}
	// A quote whose PCK certificate comes alone: nothing says which lists could revoke it.
	quote := n.Quote([64]byte{})
	end := []byte("-----END CERTIFICATE-----\n")
	rest := quote[bytes.Index(quote, end)+len(end):]
	copy(rest, bytes.Repeat([]byte{0}, len(rest)))
	if r = appraiseSaved(t, quote, attestation.Expected{}, nil); r.Check(dcap.CheckChain).Status != check.Fail {
		t.Errorf("%v", r.Err())
	}
}

// A verified result lacks nothing: what its policy does without is not missing.
func TestNothingMissing(t *testing.T) {
	e := auth.Endorsements(attestationtest.CollateralOptions{Now: now})
	e.RIMs = nil
	b, err := collateral.New(e.Inputs()...)
	if err != nil {
		t.Fatal(err)
	}
	p := auth.Policy(now)
	p.Devices.GPU.RIM, p.Devices.Switch.RIM = policy.SkipUnsafe, policy.SkipUnsafe
	v, err := attestation.NewVerifier(p, b)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		v      *attestation.Verifier
		config attestationtest.NodeConfig
	}{"without RIMs": {v, attestationtest.NodeConfig{GPUs: 2, Switches: 1}}, "with RIMs": {verifier(t, attestationtest.CollateralOptions{}, nil), attestationtest.NodeConfig{GPUs: 1}}} {
		r := c.v.Appraise(now, collect(t, c.config), nonce)
		if r.Err() != nil || len(r.Missing) > 0 || len(r.Stale) > 0 {
			t.Errorf("%s: %v, missing %q, stale %q", name, r.Err(), r.Missing, r.Stale)
		}
		for id, want := range map[string]bool{nvidia.CheckNodeNonce: true, nvidia.CheckNodeDistinct: true, nvidia.CheckNodeTopology: c.config.Switches > 0} {
			if got := r.Check(id); got == nil || got.Required != want {
				t.Errorf("%s: %s: %+v, want it required: %v", name, id, got, want)
			}
		}
	}
}

// Whatever is the one thing missing for a GPU, the rejection is for want of it.
func TestEachMissing(t *testing.T) {
	n := node(t, attestationtest.NodeConfig{GPUs: 1})
	all := auth.Endorsements(attestationtest.CollateralOptions{Now: now, OCSP: []*attestationtest.Node{n}})
	for name, change := range map[string]func(e *attestationtest.Endorsements){
		"nothing":     func(*attestationtest.Endorsements) {},
		"driver RIM":  func(e *attestationtest.Endorsements) { e.RIMs = e.RIMs[1:] },
		"vbios RIM":   func(e *attestationtest.Endorsements) { e.RIMs = e.RIMs[:1] },
		"OCSP answer": func(e *attestationtest.Endorsements) { e.OCSP = nil },
	} {
		e := all
		change(&e)
		b, err := collateral.New(e.Inputs()...)
		if err != nil {
			t.Fatal(err)
		}
		p := auth.Policy(now)
		requireOCSP(p)
		v, err := attestation.NewVerifier(p, b)
		if err != nil {
			t.Fatal(err)
		}
		r := v.Appraise(now, collect(t, attestationtest.NodeConfig{GPUs: 1}), nonce)
		if none := name == "nothing"; (r.Err() == nil) != none || !none && (!errors.Is(r.Err(), check.ErrMissing) || !strings.Contains(strings.Join(r.Missing, ","), name)) {
			t.Errorf("%s: %v, missing %q", name, r.Err(), r.Missing)
		}
	}
}
