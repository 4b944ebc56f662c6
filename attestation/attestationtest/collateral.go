package attestationtest

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/bombyx-network/bombyx/attestation/collateral"
)

// CollateralOptions says what the mock authorities publish. The zero value with Now set is what an honest host has.
type CollateralOptions struct {
	// Now dates everything: issued an hour before, valid for thirty days.
	Now time.Time
	// RevokedNodes have their PCK, VCEK or VLEK certificates on the CRL in charge of them, and their devices' identity
	// certificates revoked.
	RevokedNodes []*Node
	// RevokedCA puts both PCK CAs on the root CRL, and ASK and ASVK on the ARK's.
	RevokedCA bool
	// OCSP lists nodes whose devices NVIDIA's responder has been asked about; the answers are good unless the node is also
	// in RevokedNodes or HeldNodes. Without any there are no answers.
	OCSP []*Node
	// HeldNodes have their devices' identity certificates on hold.
	HeldNodes []*Node
	// TCBEvaluation is the tcbEvaluationDataNumber; 0 means 20.
	TCBEvaluation int
	// Drivers and VBIOS list further versions that RIMs are issued for, beside the default ones.
	Drivers, VBIOS []string
}

// Endorsements is what the authorities publish, piece by piece.
type Endorsements struct {
	TCBInfo, QEIdentity                []byte   // PCS response bodies, for TDX
	SGXTCBInfo, SGXQEIdentity          []byte   // the same for SGX
	TCBSigner                          []byte   // PEM: TCB signing certificate, root
	RootCRL, PlatformCRL, ProcessorCRL []byte   // DER
	AMDCRL                             []byte   // DER, by the ARK
	RIMs                               [][]byte // XML
	OCSP                               [][]byte // DER
	IntelRoot, DeviceRoot, RIMRoot     []byte   // DER certificates
	AMDRoot                            []byte   // DER certificate
}

// Lifetime is how long published collateral is valid.
const Lifetime = 30 * 24 * time.Hour

// Endorsements returns what the authorities publish.
func (a *Authority) Endorsements(o CollateralOptions) Endorsements {
	if o.TCBEvaluation == 0 {
		o.TCBEvaluation = 20
	}
	issued := o.Now.Add(-time.Hour).UTC().Truncate(time.Second)
	next := issued.Add(Lifetime)
	var roots, platform, processor, amd []*x509.Certificate
	if o.RevokedCA {
		roots = []*x509.Certificate{a.intel.platformCA.cert, a.intel.processorCA.cert}
		amd = []*x509.Certificate{a.amd.ask, a.amd.asvk}
	}
	for _, n := range o.RevokedNodes {
		if n.snp != nil {
			amd = append(amd, n.snp.cert)
		} else if n.config.ProcessorCA {
			processor = append(processor, n.platform.pck.cert)
		} else {
			platform = append(platform, n.platform.pck.cert)
		}
	}
	number := o.Now.Unix()
	e := Endorsements{
		TCBInfo:       a.tcbInfo("TDX", issued, next, o.TCBEvaluation),
		QEIdentity:    a.qeIdentity("TD_QE", tdQE, issued, next, o.TCBEvaluation),
		SGXTCBInfo:    a.tcbInfo("SGX", issued, next, o.TCBEvaluation),
		SGXQEIdentity: a.qeIdentity("QE", sgxQE, issued, next, o.TCBEvaluation),
		TCBSigner:     pemChain(a.intel.tcbSigner, a.intel.root),
		RootCRL:       a.intel.root.crl(issued, next, number, roots...),
		PlatformCRL:   a.intel.platformCA.crl(issued, next, number, platform...),
		ProcessorCRL:  a.intel.processorCA.crl(issued, next, number, processor...),
		AMDCRL:        a.amdCRL(issued, next, number, amd...),
		IntelRoot:     a.intel.root.cert.Raw,
		AMDRoot:       a.amd.ark.Raw,
		DeviceRoot:    a.nvidia.deviceRoot.cert.Raw,
		RIMRoot:       a.nvidia.rimRoot.cert.Raw,
	}
	for _, v := range append([]string{DriverVersion}, o.Drivers...) {
		e.RIMs = append(e.RIMs, a.driverRIM(v))
	}
	for _, v := range append([]string{VBIOSVersion}, o.VBIOS...) {
		e.RIMs = append(e.RIMs, a.vbiosRIM(v))
	}
	e.RIMs = append(e.RIMs, a.switchRIM(SwitchVersion))
	if len(o.OCSP) > 0 {
		e.OCSP = a.ocspAnswers(OCSPOptions{Now: o.Now, Revoked: o.RevokedNodes, Held: o.HeldNodes}, o.OCSP)
	}
	return e
}

// Inputs returns every piece for confidential VMs and their devices, as [collateral.New] takes them: not what SGX alone needs.
func (e Endorsements) Inputs() [][]byte {
	return append([][]byte{e.TCBInfo, e.QEIdentity, e.TCBSigner, e.RootCRL, e.PlatformCRL, e.ProcessorCRL, e.AMDCRL, e.AMDRoot}, slices.Concat(e.RIMs, e.OCSP)...)
}

// Collateral returns everything as an encoded bundle, which [collateral.Parse] reads.
func (a *Authority) Collateral(o CollateralOptions) ([]byte, error) {
	b, err := collateral.New(a.Endorsements(o).Inputs()...)
	if err != nil {
		return nil, err
	}
	return b.Encode()
}
