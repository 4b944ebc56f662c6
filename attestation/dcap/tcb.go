package dcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

func (a *appraisal) qeMatch() {
	const clause = "QVL 4.1.2.4.14 and 4.1.2.4.15 (4.1.2.9.5 to 4.1.2.9.8)"
	e := a.c.QEIdentity
	if e == nil {
		a.Missing(CheckQEMatch, clause, "QE identity")
		return
	}
	a.Decide(CheckQEMatch, clause, e.match(a.q), fmt.Sprintf("%s, MRSIGNER %x, ISVPRODID %d", e.ID, e.MRSIGNER, e.ISVProdID))
}

// match tells whether the QE report of q is that of the identified enclave.
func (e *QEIdentity) match(q *Quote) error {
	id := map[TEEType]string{TEESGX: "QE", TEETDX: "TD_QE"}[q.TEEType]
	r := &q.QEReport
	var misc [4]byte
	binary.LittleEndian.PutUint32(misc[:], r.MiscSelect)
	for i := range misc {
		misc[i] &= e.MiscSelectMask[i]
	}
	attributes := r.Attributes
	for i := range attributes {
		attributes[i] &= e.AttributesMask[i]
	}
	switch {
	case e.ID != id:
		return fmt.Errorf("QE identity is for %s, the quote needs %s", e.ID, id)
	case r.MRSIGNER != e.MRSIGNER:
		return fmt.Errorf("MRSIGNER of the QE is %x, want %x", r.MRSIGNER, e.MRSIGNER)
	case r.ISVProdID != e.ISVProdID:
		return fmt.Errorf("ISVPRODID of the QE is %d, want %d", r.ISVProdID, e.ISVProdID)
	case misc != e.MiscSelect:
		return fmt.Errorf("MISCSELECT of the QE is %08x, want %x under mask %x", r.MiscSelect, e.MiscSelect, e.MiscSelectMask)
	case attributes != e.Attributes:
		return fmt.Errorf("ATTRIBUTES of the QE are %x, want %x under mask %x", r.Attributes, e.Attributes, e.AttributesMask)
	}
	return nil
}

// tcb evaluates platform, TDX module and Quoting Enclave as Intel's QVL does (4.1.2.4.17) and converges them.
func (a *appraisal) tcb() {
	const (
		platform = "QVL 4.1.2.4.17.1 to 4.1.2.4.17.3"
		module   = "QVL 4.1.2.4.11 and 4.1.2.4.17.4"
		qe       = "QVL 4.1.2.9.9"
		status   = "QVL 4.1.2.4.17.4 and 4.1.2.4.17.5"
	)
	r := a.res

	// TCB info speaks for this platform only if both are Intel's.
	t := a.c.TCBInfo
	usable := t != nil && a.Passed(CheckTCBInfoSignature) && a.Passed(CheckTCBInfoMatch) && a.Passed(CheckChain)
	var sgx, level *TCBLevel
	switch {
	case t == nil:
		a.Missing(CheckTCBPlatform, platform, "TCB info")
	case !usable:
		a.Skip(CheckTCBPlatform, platform, "TCB info or PCK certificate is not proven to be Intel's, or they do not match")
	default:
		sgx, level = t.match(r.PCK, a.q.TD)
		r.Platform = Component{Status: NotSupported}
		if level != nil {
			r.Platform = Component{level.Status, level.Date, level.AdvisoryIDs}
		}
		a.Pass(CheckTCBPlatform, platform, "%s (PCK TCB %x, PCESVN %d)", join(r.Platform.Status, r.Platform), r.PCK.TCBComponents, r.PCK.PCESVN)
	}

	moduleOK := true
	if a.q.TD != nil {
		switch {
		case t == nil:
			a.Missing(CheckTCBModule, module, "TCB info")
		case !usable:
			a.Skip(CheckTCBModule, module, "TCB info is not usable")
		default:
			var err error
			if r.ModuleID, r.Module, err = t.module(a.q.TD); err != nil {
				moduleOK = false
				a.Fail(CheckTCBModule, module, "%v", err)
			} else if r.Module.Status == "" {
				a.Pass(CheckTCBModule, module, "module older than 1.5: covered by the platform's TCB level")
			} else {
				a.Pass(CheckTCBModule, module, "%s %s (SVN %d)", r.ModuleID, join(r.Module.Status, r.Module), a.q.TD.TEETCBSVN[0])
			}
		}
	}

	switch {
	case a.c.QEIdentity == nil:
		a.Missing(CheckTCBQE, qe, "QE identity")
	case !a.Passed(CheckQEIDSignature) || !a.Passed(CheckQEMatch):
		a.Skip(CheckTCBQE, qe, "QE identity is not proven to be Intel's, or the Quoting Enclave does not match it")
	default:
		r.QE = isvStatus(a.c.QEIdentity.TCBLevels, a.q.QEReport.ISVSVN)
		a.Pass(CheckTCBQE, qe, "%s (ISVSVN %d)", join(r.QE.Status, r.QE), a.q.QEReport.ISVSVN)
	}

	for _, c := range []Component{r.Platform, r.Module, r.QE} {
		r.AdvisoryIDs = append(r.AdvisoryIDs, c.AdvisoryIDs...)
		if !c.Date.IsZero() && (r.TCBDate.IsZero() || c.Date.Before(r.TCBDate)) {
			r.TCBDate = c.Date
		}
	}
	slices.Sort(r.AdvisoryIDs)
	r.AdvisoryIDs = slices.Compact(r.AdvisoryIDs)

	switch {
	case !usable || r.QE.Status == "":
		a.Skip(CheckTCBStatus, status, "not all parts could be evaluated")
		return
	case !moduleOK || level == nil:
		r.Status = NotSupported
	default:
		var err error
		if r.Status, err = t.converge(a.q, sgx.Status, level.Status, r.Module.Status, r.QE.Status); err != nil {
			r.Status = NotSupported
			a.Fail(CheckTCBStatus, status, "%v", err)
			return
		}
	}
	a.Pass(CheckTCBStatus, status, "%s", r.Status)
}

// match finds the highest level that covers the platform's SGX TCB and, among those, the highest that covers the TD's too.
// For SGX both are the same.
func (t *TCBInfo) match(pck *PCK, td *TDReport) (sgx, level *TCBLevel) {
	for i := range t.TCBLevels {
		l := &t.TCBLevels[i]
		if !covers(pck.TCBComponents[:], l.SGX[:]) || pck.PCESVN < l.PCESVN {
			continue
		}
		if sgx == nil {
			sgx = l
		}
		if td == nil {
			return sgx, l
		}
		// From TDX 1.5 on the module's own SVN is judged by its identity.
		from := 0
		if td.TEETCBSVN[1] > 0 {
			from = 2
		}
		if covers(td.TEETCBSVN[from:], l.TDX[from:]) {
			return sgx, l
		}
	}
	return sgx, nil
}

func covers(have, want []uint8) bool {
	for i := range want {
		if have[i] < want[i] {
			return false
		}
	}
	return true
}

// moduleIdentity finds the identity of a major version of the TDX module.
func (t *TCBInfo) moduleIdentity(major uint8) (*TDXModuleIdentity, error) {
	id := fmt.Sprintf("TDX_%02X", major)
	for i := range t.TDXModuleIdentities {
		if t.TDXModuleIdentities[i].ID == id {
			return &t.TDXModuleIdentities[i], nil
		}
	}
	return nil, fmt.Errorf("TCB info knows no TDX module %s", id)
}

// module evaluates the TDX module. The status is empty for modules older than 1.5.
func (t *TCBInfo) module(td *TDReport) (id string, c Component, err error) {
	want := t.TDXModule
	var identity *TDXModuleIdentity
	if major := td.TEETCBSVN[1]; major > 0 {
		if identity, err = t.moduleIdentity(major); err != nil {
			return "", c, err
		}
		id, want = identity.ID, &identity.TDXModule
	}
	if td.MRSIGNERSEAM != want.MRSIGNER {
		return id, c, fmt.Errorf("MRSIGNERSEAM is %x, want %x", td.MRSIGNERSEAM, want.MRSIGNER)
	}
	// QVL wants them to be zero whatever the mask says.
	if td.SEAMAttributes != want.Attributes || td.SEAMAttributes != [8]byte{} {
		return id, c, fmt.Errorf("SEAMATTRIBUTES are %x, want %x and zero", td.SEAMAttributes, want.Attributes)
	}
	if identity == nil {
		return "", c, nil
	}
	return id, isvStatus(identity.TCBLevels, uint16(td.TEETCBSVN[0])), nil
}

// isvStatus finds the highest level that the SVN reaches.
func isvStatus(levels []ISVLevel, svn uint16) Component {
	for _, l := range levels {
		if svn >= l.ISVSVN {
			return Component{l.Status, l.Date, l.AdvisoryIDs}
		}
	}
	return Component{Status: NotSupported}
}

// converge combines the statuses. sgx is the status of the highest level that covers the SGX TCB alone; module is empty if it
// is not judged on its own.
func (t *TCBInfo) converge(q *Quote, sgx, platform, module, qe TCBStatus) (TCBStatus, error) {
	if module == NotSupported {
		return NotSupported, nil
	}
	s := degrade(platform, module)
	if q.BodyType == BodyTD15 && s != Revoked && qe == UpToDate {
		var err error
		if s, err = t.relaunch(q.TD.TEETCBSVN2, sgx, s, module); err != nil {
			return "", err
		}
	}
	if qe == NotSupported && (q.TD == nil || s != Revoked) {
		return NotSupported, nil
	}
	return degrade(s, qe), nil
}

// degrade lowers s to what a component's status leaves of it.
func degrade(s, component TCBStatus) TCBStatus {
	switch component {
	case Revoked:
		return Revoked
	case OutOfDate:
		switch s {
		case UpToDate, SWHardeningNeeded:
			return OutOfDate
		case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded:
			return OutOfDateConfigurationNeeded
		}
	}
	return s
}

// relaunch handles a TD that was started under an outdated module on a platform which runs the newest one by now: launching
// the TD anew mends it (TDX 1.5, TEE_TCB_SVN_2).
func (t *TCBInfo) relaunch(now [16]byte, sgx, s, module TCBStatus) (TCBStatus, error) {
	configuration := sgx == ConfigurationNeeded || sgx == ConfigurationAndSWHardeningNeeded
	if sgx != UpToDate && sgx != SWHardeningNeeded && !configuration {
		return s, nil
	}
	if module != OutOfDate { // else s is at most that: it is not revoked
		return s, nil
	}
	latest := &t.TCBLevels[0]
	svn := uint16(latest.TDX[0])
	if now[1] > 0 {
		identity, err := t.moduleIdentity(now[1])
		if err != nil {
			return "", errors.Join(errors.New("module loaded now (TEE_TCB_SVN_2)"), err)
		}
		svn = identity.TCBLevels[0].ISVSVN
	}
	if uint16(now[0]) < svn || now[2] < latest.TDX[2] {
		return s, nil
	}
	if configuration || s == OutOfDateConfigurationNeeded {
		return TDRelaunchAdvisedConfigurationNeeded, nil
	}
	return TDRelaunchAdvised, nil
}
