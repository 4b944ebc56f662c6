package attestation_test

import (
	"testing"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
)

func TestInspect(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		kind attestation.Kind
		want map[string]string
	}{
		"TDX": {collect(t, attestationtest.NodeConfig{GPUs: 2, Switches: 1, Debug: true}), attestation.KindEvidence,
			map[string]string{"cpu.kind": "TDX", "tdx.attributes": "0000000010000001", "gpu1.driver": attestationtest.DriverVersion,
				"switch0.vbios": attestationtest.SwitchVersion, "mode": "multi-gpu", "platform.fmspc": "70a06d070000"}},
		"SNP":    {collect(t, attestationtest.NodeConfig{SNP: true}), attestation.KindEvidence, map[string]string{"cpu.kind": "SEV-SNP", "snp.vmpl": "0"}},
		"quote":  {node(t, attestationtest.NodeConfig{QuoteVersion: 5}).Quote([64]byte{1}), attestation.KindTDXQuote, map[string]string{"quote.version": "5"}},
		"GPU":    {node(t, attestationtest.NodeConfig{GPUs: 1}).Devices(nonce)[0].Report, attestation.KindGPUReport, map[string]string{"gpu0.cc_mode": "spt"}},
		"Cocoon": {cocoon(t, attestationtest.NodeConfig{}, nil), attestation.KindCocoon, map[string]string{"cpu.kind": "TDX"}},
	} {
		kind, claims, err := attestation.Inspect(c.data, nil)
		if err != nil || kind != c.kind {
			t.Errorf("%s: %s, %v", name, kind, err)
		}
		for k, v := range c.want {
			if claims[k] != v {
				t.Errorf("%s: %s is %q, want %q", name, k, claims[k], v)
			}
		}
	}
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("hello"), "truncated quote": node(t, attestationtest.NodeConfig{}).Quote([64]byte{})[:600]} {
		if _, _, err := attestation.Inspect(data, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
