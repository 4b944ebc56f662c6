package dcap

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bombyx-network/bombyx/attestation/internal/pki"
)

const (
	maxCollateral = 1 << 20
	maxLevels     = 256
)

// TCBStatus is Intel's word for the state of a platform, a TDX module or a Quoting Enclave. The zero value means that the
// status could not be determined.
type TCBStatus string

// The statuses of TCB info and QE identity (PCS API v4), and those that arise from the convergence.
const (
	UpToDate                             TCBStatus = "UpToDate"
	SWHardeningNeeded                    TCBStatus = "SWHardeningNeeded"
	ConfigurationNeeded                  TCBStatus = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded    TCBStatus = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                            TCBStatus = "OutOfDate"
	OutOfDateConfigurationNeeded         TCBStatus = "OutOfDateConfigurationNeeded"
	TDRelaunchAdvised                    TCBStatus = "TDRelaunchAdvised"
	TDRelaunchAdvisedConfigurationNeeded TCBStatus = "TDRelaunchAdvisedConfigurationNeeded"
	Revoked                              TCBStatus = "Revoked"
	NotSupported                         TCBStatus = "NotSupported" // no TCB level covers it
)

var (
	platformStatuses = []TCBStatus{UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded,
		OutOfDate, OutOfDateConfigurationNeeded, Revoked}
	componentStatuses = []TCBStatus{UpToDate, OutOfDate, Revoked}
)

// Collateral is what Intel publishes about a platform. Any part may be nil; checks that need it are then skipped and
// Verifier.Verify returns an error that says which. It must not be modified once it has been given to a Verifier.
//
// Issuer chains are leaf first. Their root may be left out: trust comes from the Verifier's anchors alone.
type Collateral struct {
	TCBInfo         *TCBInfo
	TCBInfoChain    []*x509.Certificate // issuer of TCBInfo; PCS header TCB-Info-Issuer-Chain
	QEIdentity      *QEIdentity
	QEIdentityChain []*x509.Certificate // issuer of QEIdentity; PCS header SGX-Enclave-Identity-Issuer-Chain
	RootCRL         *CRL
	PCKCRL          *CRL                // of the CA (Platform or Processor) that issued the PCK certificate, found in its chain
	PCKChain        []*x509.Certificate // for quotes that embed no chain
}

// TCBInfo is Intel's signed statement about the TCB levels of one platform family (PCS API v4, TCB info version 3).
type TCBInfo struct {
	Raw       []byte   // the signed bytes, exactly as received
	Signature [64]byte // r || s over SHA-256 of Raw

	ID                      string // "SGX" or "TDX"
	IssueDate               time.Time
	NextUpdate              time.Time
	FMSPC                   [6]byte
	PCEID                   [2]byte
	TCBEvaluationDataNumber uint32
	TDXModule               *TDXModule // nil for SGX
	TDXModuleIdentities     []TDXModuleIdentity
	TCBLevels               []TCBLevel // highest first

	digest [32]byte
}

// TDXModule identifies who signed the TDX module.
type TDXModule struct {
	MRSIGNER       [48]byte
	Attributes     [8]byte
	AttributesMask [8]byte
}

// TDXModuleIdentity is one major version of the TDX module with its TCB levels, highest first.
type TDXModuleIdentity struct {
	ID string // "TDX_" and the major version in two hexadecimal digits
	TDXModule
	TCBLevels []ISVLevel
}

// TCBLevel is one level of the platform's TCB.
type TCBLevel struct {
	SGX         [16]uint8
	TDX         [16]uint8 // zero for SGX
	PCESVN      uint16
	Date        time.Time
	Status      TCBStatus
	AdvisoryIDs []string

	hasTDX bool
}

// ISVLevel is one level of a TDX module or a Quoting Enclave.
type ISVLevel struct {
	ISVSVN      uint16
	Date        time.Time
	Status      TCBStatus
	AdvisoryIDs []string
}

// QEIdentity is Intel's signed statement about its Quoting Enclaves (PCS API v4, enclave identity version 2).
type QEIdentity struct {
	Raw       []byte
	Signature [64]byte

	ID                      string // "QE" for SGX, "TD_QE" for TDX
	IssueDate               time.Time
	NextUpdate              time.Time
	TCBEvaluationDataNumber uint32
	MiscSelect              [4]byte // little endian, as in the report
	MiscSelectMask          [4]byte
	Attributes              [16]byte
	AttributesMask          [16]byte
	MRSIGNER                [32]byte
	ISVProdID               uint16
	TCBLevels               []ISVLevel // highest first

	digest [32]byte
}

// ParseTCBInfo parses the body of a PCS "Get TCB Info" response: {"tcbInfo": {...}, "signature": "..."}.
func ParseTCBInfo(b []byte) (t *TCBInfo, err error) {
	t = new(TCBInfo)
	if t.Raw, t.Signature, err = signedDocument(b, "tcbInfo", t.parse); err != nil {
		return nil, fmt.Errorf("dcap: malformed TCB info: %w", err)
	}
	t.digest = sha256.Sum256(t.Raw)
	return t, nil
}

// ParseSignedTCBInfo parses a TCB info that is kept apart from its signature (64 bytes, r || s).
func ParseSignedTCBInfo(raw []byte, signature [64]byte) (t *TCBInfo, err error) {
	t = &TCBInfo{Signature: signature}
	if t.Raw, err = signedBody(raw, t.parse); err != nil {
		return nil, fmt.Errorf("dcap: malformed TCB info: %w", err)
	}
	t.digest = sha256.Sum256(t.Raw)
	return t, nil
}

func (t *TCBInfo) parse(d *decoder) error {
	var identities, module bool
	err := d.object(fields{
		{"id", d.into(&t.ID)},
		{"version", d.constant(3)},
		{"issueDate", d.time(&t.IssueDate)},
		{"nextUpdate", d.time(&t.NextUpdate)},
		{"fmspc", d.hex(t.FMSPC[:])},
		{"pceId", d.hex(t.PCEID[:])},
		{"tcbType", d.constant(0)},
		{"tcbEvaluationDataNumber", d.uint32(&t.TCBEvaluationDataNumber)},
		{"tdxModule?", func() error {
			module, t.TDXModule = true, new(TDXModule)
			return d.object(fields{
				{"mrsigner", d.hex(t.TDXModule.MRSIGNER[:])},
				{"attributes", d.hex(t.TDXModule.Attributes[:])},
				{"attributesMask", d.hex(t.TDXModule.AttributesMask[:])},
			})
		}},
		{"tdxModuleIdentities?", func() error {
			identities = true
			return d.array(maxLevels, func() error {
				t.TDXModuleIdentities = append(t.TDXModuleIdentities, TDXModuleIdentity{})
				return d.tdxModuleIdentity(&t.TDXModuleIdentities[len(t.TDXModuleIdentities)-1])
			})
		}},
		{"tcbLevels", func() error {
			return d.array(maxLevels, func() error {
				t.TCBLevels = append(t.TCBLevels, TCBLevel{})
				return d.tcbLevel(&t.TCBLevels[len(t.TCBLevels)-1])
			})
		}},
	})
	switch {
	case err != nil:
		return err
	case t.ID != "SGX" && t.ID != "TDX":
		return fmt.Errorf("id %q; SGX and TDX are supported", t.ID)
	case t.ID == "SGX" && (module || identities):
		return errors.New("TDX module in a TCB info for SGX")
	case t.ID == "TDX" && !module:
		return errors.New(`member "tdxModule" is missing`)
	case identities && len(t.TDXModuleIdentities) == 0:
		return errors.New("no TDX module identities")
	case len(t.TCBLevels) == 0:
		return errors.New("no TCB levels")
	case !t.NextUpdate.After(t.IssueDate):
		return errors.New("nextUpdate is not after issueDate")
	}
	for _, l := range t.TCBLevels {
		if l.hasTDX != (t.ID == "TDX") {
			return fmt.Errorf("a TCB level with or without TDX components, in a TCB info for %s", t.ID)
		}
	}
	for i, m := range t.TDXModuleIdentities {
		for _, n := range t.TDXModuleIdentities[:i] {
			if m.ID == n.ID {
				return fmt.Errorf("TDX module identity %q twice", m.ID)
			}
		}
	}
	// Appraisal goes from the highest level down; the order in the document is not relied upon (QVL does the same).
	slices.SortStableFunc(t.TCBLevels, func(a, b TCBLevel) int { return compareLevels(&b, &a) })
	for i := 1; i < len(t.TCBLevels); i++ {
		if compareLevels(&t.TCBLevels[i-1], &t.TCBLevels[i]) == 0 {
			return errRepeated
		}
	}
	return nil
}

var errRepeated = errors.New("a TCB level is listed twice")

func compareLevels(a, b *TCBLevel) int {
	return cmp.Or(slices.Compare(a.SGX[:], b.SGX[:]), cmp.Compare(a.PCESVN, b.PCESVN), slices.Compare(a.TDX[:], b.TDX[:]))
}

func (d *decoder) tdxModuleIdentity(m *TDXModuleIdentity) error {
	err := d.object(fields{
		{"id", d.into(&m.ID)},
		{"mrsigner", d.hex(m.MRSIGNER[:])},
		{"attributes", d.hex(m.Attributes[:])},
		{"attributesMask", d.hex(m.AttributesMask[:])},
		{"tcbLevels", d.isvLevels(&m.TCBLevels)},
	})
	if err != nil {
		return err
	}
	var major [1]byte
	if len(m.ID) != 6 || m.ID[:4] != "TDX_" || hexBytes(major[:], m.ID[4:]) != nil {
		return d.errorf("TDX module identity %q is not like TDX_01", m.ID)
	}
	m.ID = fmt.Sprintf("TDX_%02X", major[0])
	return nil
}

func (d *decoder) tcbLevel(l *TCBLevel) error {
	components := func(dst *[16]uint8) func() error {
		return func() error {
			n := 0
			component := fields{
				{"svn", func() error { return d.uint8(&dst[n-1])() }},
				{"category?", d.skipString},
				{"type?", d.skipString},
			}
			err := d.array(16, func() error {
				n++
				return d.object(component)
			})
			if err == nil && n != 16 {
				err = d.errorf("%d TCB components, want 16", n)
			}
			return err
		}
	}
	return d.object(fields{
		{"tcb", func() error {
			return d.object(fields{
				{"sgxtcbcomponents", components(&l.SGX)},
				{"tdxtcbcomponents?", func() error {
					l.hasTDX = true
					return components(&l.TDX)()
				}},
				{"pcesvn", d.uint16(&l.PCESVN)},
			})
		}},
		{"tcbDate", d.time(&l.Date)},
		{"tcbStatus", d.status(&l.Status, platformStatuses)},
		{"advisoryIDs?", d.strings(&l.AdvisoryIDs)},
	})
}

func (d *decoder) status(p *TCBStatus, valid []TCBStatus) func() error {
	return func() error {
		s, err := d.str()
		if err != nil {
			return err
		}
		i := slices.Index(valid, TCBStatus(s))
		if i < 0 {
			return d.errorf("unknown TCB status %q", s)
		}
		*p = valid[i]
		return nil
	}
}

func (d *decoder) isvLevels(p *[]ISVLevel) func() error {
	return func() error {
		err := d.array(maxLevels, func() error {
			*p = append(*p, ISVLevel{})
			l := &(*p)[len(*p)-1]
			return d.object(fields{
				{"tcb", func() error { return d.object(fields{{"isvsvn", d.uint16(&l.ISVSVN)}}) }},
				{"tcbDate", d.time(&l.Date)},
				{"tcbStatus", d.status(&l.Status, componentStatuses)},
				{"advisoryIDs?", d.strings(&l.AdvisoryIDs)},
			})
		})
		if err != nil {
			return err
		}
		if len(*p) == 0 {
			return d.errorf("no TCB levels")
		}
		slices.SortStableFunc(*p, func(a, b ISVLevel) int { return cmp.Compare(b.ISVSVN, a.ISVSVN) })
		for i := 1; i < len(*p); i++ {
			if (*p)[i-1].ISVSVN == (*p)[i].ISVSVN {
				return errRepeated
			}
		}
		return nil
	}
}

// ParseQEIdentity parses the body of a PCS "Get QE Identity" response: {"enclaveIdentity": {...}, "signature": "..."}.
func ParseQEIdentity(b []byte) (e *QEIdentity, err error) {
	e = new(QEIdentity)
	if e.Raw, e.Signature, err = signedDocument(b, "enclaveIdentity", e.parse); err != nil {
		return nil, fmt.Errorf("dcap: malformed QE identity: %w", err)
	}
	e.digest = sha256.Sum256(e.Raw)
	return e, nil
}

// ParseSignedQEIdentity parses a QE identity that is kept apart from its signature (64 bytes, r || s).
func ParseSignedQEIdentity(raw []byte, signature [64]byte) (e *QEIdentity, err error) {
	e = &QEIdentity{Signature: signature}
	if e.Raw, err = signedBody(raw, e.parse); err != nil {
		return nil, fmt.Errorf("dcap: malformed QE identity: %w", err)
	}
	e.digest = sha256.Sum256(e.Raw)
	return e, nil
}

func (e *QEIdentity) parse(d *decoder) error {
	err := d.object(fields{
		{"id", d.into(&e.ID)},
		{"version", d.constant(2)},
		{"issueDate", d.time(&e.IssueDate)},
		{"nextUpdate", d.time(&e.NextUpdate)},
		{"tcbEvaluationDataNumber", d.uint32(&e.TCBEvaluationDataNumber)},
		{"miscselect", d.hex(e.MiscSelect[:])},
		{"miscselectMask", d.hex(e.MiscSelectMask[:])},
		{"attributes", d.hex(e.Attributes[:])},
		{"attributesMask", d.hex(e.AttributesMask[:])},
		{"mrsigner", d.hex(e.MRSIGNER[:])},
		{"isvprodid", d.uint16(&e.ISVProdID)},
		{"tcbLevels", d.isvLevels(&e.TCBLevels)},
	})
	switch {
	case err != nil:
		return err
	case e.ID != "QE" && e.ID != "TD_QE":
		return fmt.Errorf("id %q; QE and TD_QE are supported", e.ID)
	case !e.NextUpdate.After(e.IssueDate):
		return errors.New("nextUpdate is not after issueDate")
	}
	return nil
}

// CRL is a certificate revocation list.
type CRL struct {
	List *x509.RevocationList // without its entries, for which there is Revoked

	digest  [32]byte
	revoked pki.Serials
}

// ParseCRL parses a DER certificate revocation list.
func ParseCRL(der []byte) (*CRL, error) {
	list, revoked, err := pki.ParseCRL(der)
	if err != nil {
		return nil, fmt.Errorf("dcap: %w", err)
	}
	return &CRL{List: list, digest: sha256.Sum256(list.RawTBSRevocationList), revoked: revoked}, nil
}

// Revoked reports whether the list names the certificate's serial number. It does not look at the issuer.
func (c *CRL) Revoked(cert *x509.Certificate) bool { return c.revoked.Has(cert) }

// ParseChain parses a sequence of PEM certificates, as in PCS issuer-chain headers (after URL decoding), leaf first.
func ParseChain(pem []byte) ([]*x509.Certificate, error) {
	ders, err := splitPEM(pem)
	if err != nil {
		return nil, fmt.Errorf("dcap: certificate chain: %w", err)
	}
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		if bytes.Equal(der, intelRoot().Raw) { // closes every chain of Intel's: no need to parse it again
			chain[i] = intelRoot()
			continue
		}
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("dcap: certificate %d of the chain: %w", i+1, err)
		}
	}
	return chain, nil
}
