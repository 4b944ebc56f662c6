package attestation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// snp appraises an SEV-SNP report. The certificates may be nil: the bundle is then searched for the endorsement key. A nil
// reportData leaves open what the report should bind.
func (a *appraisal) snp(raw, certificates, reportData []byte) {
	a.res.Claims["cpu.kind"] = "SEV-SNP"
	rules := a.v.policy.SNP
	if rules == nil {
		a.fail(CheckCPU, clausePolicy, fmt.Errorf("the policy %q does not accept SEV-SNP", a.v.policy.Name))
		return
	}
	a.pass(CheckCPU, clausePolicy, "SEV-SNP")
	r, err := snp.ParseReport(raw)
	if err != nil {
		a.fail(snp.CheckParse, "SEV-SNP ABI, ATTESTATION_REPORT", err)
		return
	}
	c, err := a.snpCollateral(r, certificates)
	if err != nil {
		a.fail(snp.CheckChain, "RFC 7468", err)
		return
	}
	res, _ := a.v.amd.Verify(a.now, r, c)
	for _, c := range res.Checks {
		if c.Missing != "" {
			a.res.missing(c.Missing)
		}
		a.add(c)
	}
	a.res.until(res.ValidUntil)

	a.judge(CheckDebug, rules.JudgeDebug(r.Policy))
	a.judge(CheckAttributes, rules.JudgeGuestPolicy(r.Policy))
	a.judge(CheckVMPL, rules.JudgeVMPL(r.VMPL))
	a.judge(CheckConfiguration, rules.JudgePlatform(r.PlatformInfo))
	if res.Key != nil {
		a.judge(CheckKeyKind, rules.JudgeKey(res.Key))
		a.judge(CheckTCB, rules.JudgeTCB(r, res.Key.Product))
		a.judge(CheckMitigations, rules.JudgeMitigations(r, res.Key.Product))
	} else {
		for _, id := range []string{CheckKeyKind, CheckTCB, CheckMitigations} {
			a.add(check.Check{ID: id, Clause: clausePolicy, Status: check.Skip, Detail: "no endorsement key certificate could be read"})
		}
	}
	image := a.v.refs.JudgeGuest(a.now, rules, r)
	a.judge(CheckImage, image)
	if image.Err == nil {
		a.res.Claims["image"] = image.Seen
	}
	// A masked id or a VLEK leaves the chip unnamed; then it is on no list.
	a.machine("", policy.MachineChipID, r.ChipID[:], sha256.Sum256(raw), a.v.policy.Hardware.CPU)
	a.reportData(r.ReportData, reportData)
	m := a.res.Claims
	snpClaims(m, r)
	if res.Key != nil {
		m["snp.product"] = string(res.Key.Product)
		m["snp.key"] = res.Key.Kind.String()
	}
}

func snpClaims(m map[string]string, r *snp.Report) {
	hexClaims(m, "snp.measurement", r.Measurement[:], "snp.host_data", r.HostData[:], "snp.chip_id", r.ChipID[:], "snp.id_key_digest", r.IDKeyDigest[:],
		"snp.author_key_digest", r.AuthorKeyDigest[:], "snp.family_id", r.FamilyID[:], "snp.image_id", r.ImageID[:], "report_data", r.ReportData[:])
	m["snp.version"], m["snp.guest_svn"], m["snp.vmpl"] = fmt.Sprint(r.Version), fmt.Sprint(r.GuestSVN), fmt.Sprint(r.VMPL)
	m["snp.policy"] = fmt.Sprintf("%#x", uint64(r.Policy))
	m["snp.platform_info"] = fmt.Sprintf("%#x", uint64(r.PlatformInfo))
	m["snp.reported_tcb"] = fmt.Sprintf("%016x", uint64(r.ReportedTCB))
	m["snp.committed_tcb"] = fmt.Sprintf("%016x", uint64(r.CommittedTCB))
}

// endorser is the certificate of an endorsement key.
type endorser struct {
	cert *x509.Certificate
	key  *snp.EndorsementKey
}

// readEndorsers sorts the certificates of the bundle.
func (v *Verifier) readEndorsers() {
	for _, cert := range v.bundle.Certificates() {
		if k, err := snp.ParseEndorsementKey(cert); err == nil {
			v.endorsers = append(v.endorsers, endorser{cert, k})
		}
		if cert.IsCA {
			v.intermediates = append(v.intermediates, cert)
		}
	}
	v.intermediates = append(v.intermediates, snp.AMDIntermediates()...)
}

// snpCollateral gathers the endorsement key, its intermediates and the revocation lists.
func (a *appraisal) snpCollateral(r *snp.Report, certificates []byte) (*snp.Collateral, error) {
	c := &snp.Collateral{CRLs: a.v.bundle.AMDCRLs(a.now)}
	given, err := a.v.amdCertificates(certificates)
	if err != nil {
		return nil, err
	}
	c.Intermediates = a.v.intermediates
	// The key comes first by convention, and last in what some networks publish. Hosts that have both a VCEK and a VLEK give both.
	i := slices.IndexFunc(given, func(c *x509.Certificate) bool { return !c.IsCA })
	for j, cert := range given {
		if k, err := snp.ParseEndorsementKey(cert); err == nil && k.Kind == r.SigningKey {
			i = j
			break
		}
	}
	if i >= 0 {
		c.Key = given[i]
		c.Intermediates = slices.Concat(given[:i], given[i+1:], a.v.intermediates)
		return c, nil
	}
	for _, e := range a.v.endorsers {
		// A VLEK names no chip, and its empty HWID begins every CHIP_ID.
		if k := e.key; k.Kind == r.SigningKey && r.ReportedTCB.Parts(k.Product) == k.TCB && bytes.HasPrefix(r.ChipID[:], k.HWID) {
			c.Key = e.cert
			break
		}
	}
	return c, nil
}

// amdCertificates parses certificates, or finds them parsed. Longer chains than AMD's are not worth the memory.
func (v *Verifier) amdCertificates(b []byte) ([]*x509.Certificate, error) {
	if len(b) == 0 || len(b) > 16<<10 {
		return parseCertificates(b)
	}
	key := sha256.Sum256(b)
	if certs, ok := v.amdCerts.Get(key); ok {
		return certs, nil
	}
	certs, err := parseCertificates(b)
	if err == nil {
		v.amdCerts.Put(key, certs)
	}
	return certs, err
}

// parseCertificates reads a chain in PEM, nothing but CERTIFICATE blocks, or in concatenated DER.
func parseCertificates(b []byte) ([]*x509.Certificate, error) {
	if len(b) > 0 && b[0] == 0x30 { // a DER SEQUENCE
		return x509.ParseCertificates(b)
	}
	var der []byte
	for rest := bytes.TrimSpace(b); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE")) {
			return nil, errors.New("the endorsement key's certificates are not PEM")
		}
		der, rest = append(der, block.Bytes...), after
	}
	return x509.ParseCertificates(der)
}
