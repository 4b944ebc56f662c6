package attestation

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/internal/cache"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// A Verifier appraises Evidence under one policy with one bundle of collateral. It is immutable but for bounded caches of
// certificates and signatures that it has verified before, and safe for concurrent use. A new policy or bundle takes a
// new Verifier.
type Verifier struct {
	policy *policy.Policy
	bundle *collateral.Bundle
	intel  *dcap.Verifier   // nil when the policy pins no Intel root
	amd    *snp.Verifier    // nil when the policy pins no AMD root
	nvidia *nvidia.Verifier // nil when the policy pins no NVIDIA root
	gpu    nvidia.Collateral
	known  policy.Registry    // what issuers say about machines
	refs   *policy.References // what publishers say about software

	endorsers     []endorser          // endorsement keys in the bundle
	intermediates []*x509.Certificate // CAs in the bundle, and AMD's

	// Certificates that evidence with an SNP report brought along, by SHA-256; parsing takes longer than a signature check.
	amdCerts *cache.Cache[[]*x509.Certificate]
}

// remembered is the most of such chains that a Verifier keeps.
const remembered = 1024

// NewVerifier returns a Verifier. The policy pins roots by fingerprint; their certificates must be in the bundle, except
// Intel's and AMD's production roots, which need no bundle to be recognised. If the policy names registries there must be one
// snapshot of each.
func NewVerifier(pol *policy.Policy, c *collateral.Bundle, registries ...*policy.Snapshot) (*Verifier, error) {
	if pol == nil || c == nil {
		return nil, errors.New("attestation: a Verifier needs a policy and a bundle of collateral")
	}
	// Encoding refuses policies that were put together by hand and make no sense.
	encoded, err := pol.Encode()
	if err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	// The Verifier keeps its own copy, so that the caller's changes cannot reach it.
	if pol, err = policy.Parse(encoded); err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	refs, err := pol.References(registries)
	if err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	v := &Verifier{policy: pol, bundle: c, known: c.Registry(), refs: refs, amdCerts: cache.New[[]*x509.Certificate](remembered)}
	v.readEndorsers()

	known := slices.Concat(c.Certificates(), []*x509.Certificate{dcap.IntelRoot()}, snp.AMDRoots())
	if len(pol.Roots.Intel) > 0 {
		roots, err := pinned(known, pol.Roots.Intel, "roots.intel")
		if err != nil {
			return nil, err
		}
		if v.intel, err = dcap.NewVerifier(roots...); err != nil {
			return nil, fmt.Errorf("attestation: %w", err)
		}
	}
	if len(pol.Roots.AMD) > 0 {
		roots, err := pinned(known, pol.Roots.AMD, "roots.amd")
		if err != nil {
			return nil, err
		}
		if v.amd, err = snp.NewVerifier(roots...); err != nil {
			return nil, fmt.Errorf("attestation: %w", err)
		}
	}
	if len(pol.Roots.NVIDIADevice) > 0 {
		config := nvidia.Config{}
		for _, pin := range pol.Roots.NVIDIADevice {
			config.DeviceRoots = append(config.DeviceRoots, pin)
		}
		for _, pin := range pol.Roots.NVIDIARIM {
			config.RIMRoots = append(config.RIMRoots, pin)
		}
		if v.nvidia, err = nvidia.NewVerifier(config); err != nil {
			return nil, fmt.Errorf("attestation: %w", err)
		}
	}
	v.gpu.RIMs = c.RIMs()
	for _, o := range c.OCSP() {
		v.gpu.OCSP = append(v.gpu.OCSP, nvidia.OCSP{Response: o})
	}
	return v, nil
}

// pinned finds the certificates that a policy pins.
func pinned(known []*x509.Certificate, pins []policy.Hash, member string) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	for _, pin := range pins {
		i := slices.IndexFunc(known, func(c *x509.Certificate) bool { return sha256.Sum256(c.Raw) == pin })
		if i < 0 {
			return nil, fmt.Errorf("attestation: the collateral lacks the root certificate %x that the policy pins in %s: add it", pin, member)
		}
		roots = append(roots, known[i])
	}
	return roots, nil
}

// Appraise appraises a composite document at the instant now against the nonce that the verifier chose. The Result is
// never nil; Result.Err says whether to believe the Evidence.
func (v *Verifier) Appraise(now time.Time, evidence []byte, nonce [32]byte) *Result {
	e, err := ParseEvidence(evidence)
	return v.appraise(now, evidence, e, err, nonce[:], nil, false)
}

// AppraiseEpoch is Appraise of Evidence that answers an epoch. The caller has proven, on a chain that it trusts, that the
// masterchain has this block and that it was made at epoch.Time; the policy decides whether that is recent enough. The
// Result ends when the block becomes too old.
func (v *Verifier) AppraiseEpoch(now time.Time, evidence []byte, epoch Epoch) *Result {
	e, err := ParseEvidence(evidence)
	nonce := epoch.Nonce()
	return v.appraise(now, evidence, e, err, nonce[:], &epoch, true)
}

// appraise appraises e, or says why the document could not be parsed. It skips the comparison of nonces if there is none. An
// epoch is what the nonce was made from; its block is on the chain, and of its Time, only if it is proven.
func (v *Verifier) appraise(now time.Time, evidence []byte, e *Evidence, err error, nonce []byte, epoch *Epoch, proven bool) *Result {
	a := v.begin(now, KindEvidence, evidence)
	defer a.res.finish()

	if err != nil {
		a.fail(CheckParse, clauseDocument, err)
		return a.res
	}
	a.pass(CheckParse, clauseDocument, fmt.Sprintf("%d bytes, mode %s", len(evidence), e.Mode))

	// The binding below is computed from the nonce in the document, so that a replay fails here alone.
	a.nonce(e.Nonce, nonce)
	switch {
	case epoch == nil:
	case proven || v.policy.Epoch == nil: // which accepts none
		a.judge(CheckEpoch, v.policy.JudgeEpoch(now, epoch.Seqno, epoch.Time))
	default:
		c := check.Check{ID: CheckEpoch, Clause: clausePolicy, Status: check.Skip, Missing: fmt.Sprintf("proof of masterchain block %d:%x", epoch.Seqno, epoch.RootHash),
			Detail: "nothing proves the block that the evidence answers, or when it was made"}
		a.res.missing(c.Missing)
		a.add(c)
	}
	ks := a.keyset(e.Keyset)

	statement := Statement(e.Nonce, e.Keyset)
	a.res.Checks = slices.Grow(a.res.Checks, perCPU+perDevice*len(e.Devices))
	var devices *devices
	var beside sync.WaitGroup
	if len(e.Devices) > 0 {
		beside.Go(func() { devices = v.appraiseDevices(now, e, DeviceNonce(statement)) })
	}
	reportData := ReportData(statement, e.Devices)
	a.cpu(&e.CPU, reportData[:])
	beside.Wait()
	a.devices(e, devices)
	if ks != nil {
		a.workload(ks)
		a.res.Keyset = ks
	}
	return a.res
}

func (a *appraisal) nonce(seen [32]byte, want []byte) {
	a.same(CheckNonce, seen[:], want, "no nonce was given to compare with: nothing says how old the evidence is", "the evidence answers another request: it may be a replay")
}

// same adds a check that seen is what is wanted, where anything is.
func (a *appraisal) same(id string, seen, want []byte, unwanted, differs string) {
	c := check.Check{ID: id, Clause: clauseBinding, Seen: hex.EncodeToString(seen)}
	if want == nil {
		c.Status, c.Detail = check.Skip, unwanted
		a.append(c)
		return
	}
	c.Status, c.Wanted = check.Pass, hex.EncodeToString(want)
	if subtle.ConstantTimeCompare(seen, want) != 1 {
		c.Status, c.Detail = check.Fail, differs
	}
	a.add(c)
}

const (
	clauseQuote    = "Intel TDX DCAP Quoting Library API, appendix 3"
	clauseDocument = "Bombyx protocol, Evidence document"
	clauseBinding  = "Bombyx protocol, Binding"
	clausePolicy   = "Bombyx policy"
)

// appraisal is one run.
type appraisal struct {
	v   *Verifier
	now time.Time
	res *Result
}

func (v *Verifier) begin(now time.Time, kind Kind, evidence []byte) *appraisal {
	a := &appraisal{v, now, &Result{Kind: kind, Policy: v.policy.Name, AppraisedAt: now, EvidenceDigest: sha256.Sum256(evidence),
		Claims: make(map[string]string, 48), Advisories: []string{}}}
	a.res.until(now.Add(v.policy.Age()))
	a.judge(CheckPolicyExpiry, v.policy.JudgeExpiry(now))
	for i, f := range v.refs.Judge(now) {
		c := decided(CheckRegistry, f)
		c.ID, c.Title = fmt.Sprintf("registry%d.%s", i, CheckRegistry), titles[CheckRegistry]
		a.add(c)
		a.res.until(f.Until)
	}
	return a
}

// Checks to expect, so that their list need not grow.
const (
	perCPU    = 40
	perDevice = 28
)

// add appends a required check.
func (a *appraisal) add(c check.Check) {
	c.Required = true
	a.append(c)
}

func (a *appraisal) append(c check.Check) {
	if c.Title == "" {
		c.Title = titles[c.ID]
	}
	a.res.Checks = append(a.res.Checks, c)
}

func (a *appraisal) pass(id, clause, seen string) {
	a.add(check.Check{ID: id, Clause: clause, Status: check.Pass, Seen: seen})
}

func (a *appraisal) fail(id, clause string, err error) {
	a.add(check.Check{ID: id, Clause: clause, Status: check.Fail, Detail: err.Error()})
}

// decided turns a policy's finding into a check.
func decided(id string, f policy.Finding) check.Check {
	c := check.Check{ID: id, Clause: clausePolicy, Status: check.Pass, Seen: f.Seen, Wanted: f.Wanted}
	if f.Err != nil {
		c.Status, c.Detail = check.Fail, f.Err.Error()
	}
	return c
}

func (a *appraisal) judge(id string, f policy.Finding) {
	a.add(decided(id, f))
	a.res.until(f.Until)
}

func (a *appraisal) keyset(encoded []byte) *keyset.Keyset {
	const clause = "Bombyx protocol, Keyset"
	ks, err := keyset.Parse(encoded)
	if err != nil {
		a.fail(CheckKeyset, clause, err)
		return nil
	}
	c := check.Check{ID: CheckKeyset, Clause: clause, Status: check.Pass, Seen: "until " + stamp(ks.NotAfter), Wanted: "after " + stamp(a.now)}
	if !a.now.Before(ks.NotAfter) {
		c.Status, c.Detail = check.Fail, "the keyset has expired; ask the enclave for a new one"
	}
	a.add(c)
	a.res.until(ks.NotAfter)
	keysetClaims(a.res.Claims, encoded, ks)
	return ks
}

func keysetClaims(m map[string]string, encoded []byte, ks *keyset.Keyset) {
	digest := keyset.Digest(encoded)
	hexClaims(m, "keyset.sha256", digest[:], "keyset.build", ks.Build[:], "keyset.config", ks.Config[:], "keyset.model", ks.ModelManifest[:],
		"keyset.receipt_key", []byte(ks.ReceiptKey), "keyset.tls_spki", ks.TLSSPKI[:])
	m["keyset.not_after"] = stamp(ks.NotAfter)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (a *appraisal) workload(ks *keyset.Keyset) {
	w := a.v.policy.Workload
	a.judge(CheckBuild, a.v.refs.JudgeDigest(a.now, policy.Builds, w.Builds.Judge(ks.Build), ks.Build))
	a.judge(CheckConfig, a.v.refs.JudgeDigest(a.now, policy.Configs, w.Configs.Judge(ks.Config), ks.Config))
	a.judge(CheckModel, a.v.refs.JudgeDigest(a.now, policy.Models, w.Models.Judge(ks.ModelManifest), ks.ModelManifest))
}

// cpu appraises the confidential VM.
func (a *appraisal) cpu(c *CPU, reportData []byte) {
	if c.Kind == CPUSNP {
		a.snp(c.Quote, c.Certificates, reportData)
		return
	}
	q, err := dcap.ParseQuote(c.Quote)
	if err != nil {
		a.fail(dcap.CheckParse, clauseQuote, err)
		return
	}
	a.intel(q, dcap.TEETDX, reportData)
}

// intel appraises a quote. A nil reportData leaves open what the quote should bind.
func (a *appraisal) intel(q *dcap.Quote, want dcap.TEEType, reportData []byte) {
	a.res.Claims["cpu.kind"] = q.TEEType.String()
	pol := a.v.policy
	switch {
	case q.TEEType != want:
		a.fail(CheckCPU, clausePolicy, fmt.Errorf("the quote is of %s, want %s", q.TEEType, want))
		return
	case q.TD != nil && pol.TDX == nil, q.SGX != nil && pol.SGX == nil:
		a.fail(CheckCPU, clausePolicy, fmt.Errorf("the policy %q does not accept %s", pol.Name, q.TEEType))
		return
	}
	a.pass(CheckCPU, clausePolicy, q.TEEType.String())
	r, _ := a.v.intel.VerifyWith(a.now, q, func(chain []*x509.Certificate, pck *dcap.PCK) *dcap.Collateral {
		return a.v.intelCollateral(a.now, q.TEEType, chain, pck)
	})
	for _, c := range r.Checks {
		if c.Missing != "" {
			a.res.missing(c.Missing)
		}
		a.add(c)
	}
	a.res.until(r.ValidUntil)
	a.res.TCBStatus = string(r.Status)
	a.res.Advisories = append(a.res.Advisories, r.AdvisoryIDs...)
	intelClaims(a.res.Claims, r)

	var tcb *policy.IntelTCB
	var image policy.Finding
	if q.TD != nil {
		tcb = &pol.TDX.TCB
		a.judge(CheckDebug, pol.TDX.JudgeDebug(q.TD.TDAttributes))
		a.judge(CheckAttributes, pol.TDX.JudgeAttributes(q.TD.TDAttributes))
		image = a.v.refs.JudgeTD(a.now, pol.TDX, q.TD)
		tdxClaims(a.res.Claims, q)
	} else {
		tcb = &pol.SGX.TCB
		a.judge(CheckDebug, pol.SGX.JudgeDebug(q.SGX))
		image = pol.SGX.JudgeEnclave(q.SGX)
		sgxClaims(a.res.Claims, q)
	}
	if r.Status != "" {
		a.judge(CheckTCB, tcb.JudgeStatus(a.now, r.Status, r.AdvisoryIDs))
		a.judge(CheckTCBFreshness, tcb.JudgeFreshness(r.TCBEvaluationDataNumber, r.QEEvaluationDataNumber, r.TCBDate))
	} else {
		for _, id := range []string{CheckTCB, CheckTCBFreshness} {
			a.add(check.Check{ID: id, Clause: clausePolicy, Status: check.Skip, Detail: "no TCB status could be determined"})
		}
	}
	if r.PCK != nil {
		a.judge(CheckConfiguration, tcb.JudgeConfiguration(r.PCK))
	} else {
		a.add(check.Check{ID: CheckConfiguration, Clause: clausePolicy, Status: check.Skip, Detail: "no PCK certificate could be read"})
	}
	a.judge(CheckImage, image)
	if image.Err == nil {
		a.res.Claims["image"] = image.Seen
	}
	if r.PCK != nil {
		a.machine("", policy.MachinePPID, r.PCK.PPID[:], sha256.Sum256(q.Raw), pol.Hardware.CPU)
	}
	a.reportData(q.ReportData(), reportData)
}

// machine judges one piece of hardware by its identity.
func (a *appraisal) machine(prefix string, kind policy.MachineKind, identity []byte, quote [32]byte, rule policy.Rule) {
	f, listed := a.v.policy.Hardware.Judge(a.now, policy.NameMachine(kind, identity), quote, a.v.known)
	c := decided(CheckMachine, f)
	c.ID, c.Title, c.Required = prefix+CheckMachine, titles[CheckMachine], rule == policy.Required
	if f.Err == nil && !listed {
		c.Status, c.Detail = check.Skip, "nobody whom the policy listens to vouches for this machine"
		if c.Required {
			a.res.missing("a hardware list or token for " + f.Seen)
		}
	}
	a.append(c)
	a.res.until(f.Until)
}

func (a *appraisal) reportData(seen [64]byte, want []byte) {
	// A bare quote proves what it proves; what it should bind only the caller knows.
	a.same(CheckReportData, seen[:], want, "nothing was given to compare the report data with", "the quote does not vouch for this nonce, these keys and these devices together")
}

// hexClaims sets pairs of name, a string, and value, a []byte.
func hexClaims(m map[string]string, pairs ...any) {
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = hex.EncodeToString(pairs[i+1].([]byte)) // fmt is slow on arrays
	}
}

func tdxClaims(m map[string]string, q *dcap.Quote) {
	td := q.TD
	hexClaims(m, "tdx.mrtd", td.MRTD[:], "tdx.rtmr0", td.RTMR[0][:], "tdx.rtmr1", td.RTMR[1][:], "tdx.rtmr2", td.RTMR[2][:], "tdx.rtmr3", td.RTMR[3][:],
		"tdx.mrseam", td.MRSEAM[:], "tdx.mrconfigid", td.MRCONFIGID[:], "tdx.mrowner", td.MROWNER[:], "tdx.mrownerconfig", td.MROWNERCONFIG[:],
		"tdx.tee_tcb_svn", td.TEETCBSVN[:], "report_data", td.ReportData[:])
	if q.BodyType == dcap.BodyTD15 {
		hexClaims(m, "tdx.tee_tcb_svn2", td.TEETCBSVN2[:], "tdx.mrservicetd", td.MRSERVICETD[:])
	}
	m["quote.version"] = fmt.Sprint(q.Version)
	m["tdx.attributes"] = fmt.Sprintf("%016x", uint64(td.TDAttributes))
	m["tdx.xfam"] = fmt.Sprintf("%016x", td.XFAM)
}

func sgxClaims(m map[string]string, q *dcap.Quote) {
	e := q.SGX
	hexClaims(m, "sgx.mrenclave", e.MRENCLAVE[:], "sgx.mrsigner", e.MRSIGNER[:], "sgx.attributes", e.Attributes[:], "report_data", e.ReportData[:])
	m["quote.version"] = fmt.Sprint(q.Version)
	m["sgx.isvprodid"], m["sgx.isvsvn"] = fmt.Sprint(e.ISVProdID), fmt.Sprint(e.ISVSVN)
}

func intelClaims(m map[string]string, r *dcap.Result) {
	if r.PCK != nil {
		hexClaims(m, "platform.fmspc", r.PCK.FMSPC[:], "platform.ppid", r.PCK.PPID[:])
		m["platform.ca"] = r.PCK.CA
	}
	for name, c := range map[string]dcap.Component{"platform": r.Platform, "module": r.Module, "qe": r.QE} {
		if c.Status != "" {
			m["tcb."+name] = string(c.Status)
		}
	}
}

// intelCollateral picks what the bundle holds for the platform of a PCK certificate chain.
func (v *Verifier) intelCollateral(now time.Time, tee dcap.TEEType, chain []*x509.Certificate, pck *dcap.PCK) *dcap.Collateral {
	c := &dcap.Collateral{}
	tcbID, qeID := "TDX", "TD_QE"
	if tee == dcap.TEESGX {
		tcbID, qeID = "SGX", "QE"
	}
	if c.QEIdentity = v.bundle.QEIdentity(qeID, now); c.QEIdentity != nil {
		c.QEIdentityChain = v.bundle.Signer(c.QEIdentity.Signature, now)
	}
	if pck != nil {
		if c.TCBInfo = v.bundle.TCBInfo(tcbID, pck.FMSPC, now); c.TCBInfo != nil {
			c.TCBInfoChain = v.bundle.Signer(c.TCBInfo.Signature, now)
		}
	}
	if len(chain) > 1 {
		c.PCKCRL = v.bundle.CRL(chain[0].RawIssuer, chain[0].AuthorityKeyId, now)
		c.RootCRL = v.bundle.CRL(chain[1].RawIssuer, chain[1].AuthorityKeyId, now)
	}
	return c
}

// devices is the appraisal of all devices of a node.
type devices struct {
	gpus, switches []*nvidia.Result
	node           []check.Check
}

// appraiseDevices appraises what the document lists, in its order within each kind. It returns nil if the policy pins no NVIDIA root.
func (v *Verifier) appraiseDevices(now time.Time, e *Evidence, nonce [32]byte) *devices {
	if v.nvidia == nil {
		return nil
	}
	var n nvidia.NodeEvidence
	for _, d := range e.Devices {
		ev := nvidia.Evidence{Report: d.Report, Chain: d.Certificates}
		if d.Kind == DeviceGPU {
			n.GPUs = append(n.GPUs, ev)
		} else {
			n.Switches = append(n.Switches, ev)
		}
	}
	r, err := v.nvidia.VerifyNode(n, nvidia.Options{Nonce: nonce[:], Time: now, Collateral: v.gpu})
	if err != nil {
		return nil // more devices than ParseEvidence lets through
	}
	return &devices{r.GPUs, r.Switches, r.Checks}
}

func (a *appraisal) devices(e *Evidence, d *devices) {
	gpus, switches := 0, 0
	for _, dev := range e.Devices {
		if dev.Kind == DeviceGPU {
			gpus++
		} else {
			switches++
		}
	}
	rules := &a.v.policy.Devices
	mode := rules.JudgeMode(string(e.Mode), gpus, switches)
	a.judge(CheckMode, mode)
	if len(e.Devices) == 0 {
		return
	}
	if mode.Err != nil {
		// Without an accepted mode there may be no rules for these devices; the refusal stands already.
		return
	}
	if d == nil {
		a.fail(nvidia.CheckChain, clausePolicy, errors.New("the policy pins no NVIDIA root"))
		return
	}
	for i, r := range d.gpus {
		prefix := fmt.Sprintf("gpu%d.", i)
		a.gpu(prefix, r)
		if r.Report != nil {
			a.judgeDevice(prefix, CheckDeviceCC, policy.JudgeGPUMode(string(e.Mode), r.Report.Mode, r.Report.ProtectedPCIe))
		}
	}
	for i, r := range d.switches {
		a.nvswitch(fmt.Sprintf("switch%d.", i), r)
	}
	// A lone GPU has no neighbours to be wired to, and in multi-GPU passthrough the GPUs encrypt what passes between them:
	// only protected PCIe rests on who the switches are.
	wired := e.Mode == ModeMultiGPU && slices.ContainsFunc(d.gpus, func(r *nvidia.Result) bool {
		return r.Report == nil || r.Report.Mode != nvidia.ModeMultiPass
	})
	for _, c := range d.node {
		a.nvidiaCheck("", c, c.ID != nvidia.CheckNodeTopology || wired)
	}
}

// device reports the checks that package nvidia made of one device.
func (a *appraisal) device(prefix string, r *nvidia.Result, rim, ocsp policy.Rule) {
	for _, c := range r.Checks {
		required := true
		switch c.ID {
		case nvidia.CheckDriverRIMVersion, nvidia.CheckDriverRIMSignature, nvidia.CheckDriverRIMChain, nvidia.CheckDriverRIMValidity,
			nvidia.CheckVBIOSRIMVersion, nvidia.CheckVBIOSRIMSignature, nvidia.CheckVBIOSRIMChain, nvidia.CheckVBIOSRIMValidity,
			nvidia.CheckMeasurements:
			required = rim == policy.Required
		case nvidia.CheckDeviceOCSP, nvidia.CheckDriverRIMOCSP, nvidia.CheckVBIOSRIMOCSP:
			required = ocsp == policy.Required
		case nvidia.CheckDebug, nvidia.CheckFWID:
			// Hopper states no flags, switches and old drivers no firmware id in the report; the certificate's own is
			// part of the chain check either way.
			required = false
		}
		a.nvidiaCheck(prefix, c, required)
		if required && c.Status == check.Skip && (c.ID == nvidia.CheckDriverRIMVersion || c.ID == nvidia.CheckVBIOSRIMVersion ||
			c.ID == nvidia.CheckDeviceOCSP || c.ID == nvidia.CheckDriverRIMOCSP || c.ID == nvidia.CheckVBIOSRIMOCSP) {
			a.res.missing(c.Detail)
		}
	}
	a.res.until(r.ValidUntil)
	m := a.res.Claims
	if r.Report != nil {
		m[prefix+"vbios"] = r.Report.VBIOSVersion
		if r.Report.Kind == nvidia.KindGPU {
			m[prefix+"driver"] = r.Report.DriverVersion
			m[prefix+"cc_mode"] = r.Report.Mode.String()
		}
	}
	if r.Device != nil {
		a.machine(prefix, policy.MachineGPU, r.Device.Identity[:], [32]byte{}, a.v.policy.Hardware.GPU)
		m[prefix+"model"] = r.Device.Model
		m[prefix+"ueid"] = r.Device.Serial
		m[prefix+"pdi"] = r.Device.PDI.String()
	}
}

// gpu reports everything about one GPU, for which the policy has rules.
func (a *appraisal) gpu(prefix string, r *nvidia.Result) {
	rules := a.v.policy.Devices.GPU
	a.device(prefix, r, rules.RIM, rules.OCSP)
	if r.Report == nil || r.Device == nil {
		return
	}
	a.judgeDevice(prefix, CheckDeviceModel, rules.JudgeModel(r.Device.Model))
	a.judgeDevice(prefix, CheckDriver, rules.JudgeDriver(r.Report.DriverVersion))
	a.judgeDevice(prefix, CheckVBIOS, rules.JudgeVBIOS(r.Device.Model, r.Report.VBIOSVersion))
}

// nvswitch is the same for a switch.
func (a *appraisal) nvswitch(prefix string, r *nvidia.Result) {
	rules := a.v.policy.Devices.Switch
	a.device(prefix, r, rules.RIM, rules.OCSP)
	if r.Report == nil || r.Device == nil {
		return
	}
	a.judgeDevice(prefix, CheckDeviceModel, rules.JudgeModel(r.Device.Model))
	a.judgeDevice(prefix, CheckVBIOS, rules.JudgeBIOS(r.Report.VBIOSVersion))
}

func (a *appraisal) judgeDevice(prefix, id string, f policy.Finding) {
	c := decided(id, f)
	c.ID, c.Title = prefix+id, titles[id]
	a.add(c)
}

func (a *appraisal) nvidiaCheck(prefix string, c check.Check, required bool) {
	c.ID, c.Title, c.Required = prefix+c.ID, titles[c.ID], required
	a.append(c)
}
