package collateral

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

var errUnknown = errors.New("not collateral: want TCB info, QE identity, CRL, certificate, RIM, OCSP response, hardware list, token or bundle")

// add recognises one item in its signed form and indexes it. Digest and Content are the caller's to fill in.
func (b *Bundle) add(content []byte) (Item, error) {
	if len(content) > MaxItem {
		return Item{}, fmt.Errorf("%d bytes, limit %d", len(content), MaxItem)
	}
	switch trimmed := bytes.TrimLeft(content, " \t\r\n\xef\xbb\xbf"); {
	case len(trimmed) == 0:
		return Item{}, errUnknown
	case trimmed[0] == '<' && len(b.rims) == MaxRIMs:
		return Item{}, fmt.Errorf("more than %d RIMs", MaxRIMs)
	case trimmed[0] == '<':
		r, err := nvidia.ParseRIM(content)
		if err != nil {
			return Item{}, err
		}
		b.rims = append(b.rims, r)
		signer := r.Signers()[0]
		return Item{Kind: KindRIM, About: r.Product + " " + r.Edition + " " + r.Version, From: signer.NotBefore, Until: signer.NotAfter}, nil
	case trimmed[0] == '{' && hasMember(trimmed, "tcbInfo"):
		t, err := dcap.ParseTCBInfo(content)
		if err != nil {
			return Item{}, err
		}
		b.tcbInfos = append(b.tcbInfos, t)
		about := fmt.Sprintf("%s, FMSPC %x, evaluation data number %d", t.ID, t.FMSPC, t.TCBEvaluationDataNumber)
		return Item{Kind: KindTCBInfo, About: about, From: t.IssueDate, Until: t.NextUpdate}, nil
	case trimmed[0] == '{' && hasMember(trimmed, "enclaveIdentity"):
		q, err := dcap.ParseQEIdentity(content)
		if err != nil {
			return Item{}, err
		}
		b.qeIdentities = append(b.qeIdentities, q)
		about := fmt.Sprintf("%s, evaluation data number %d", q.ID, q.TCBEvaluationDataNumber)
		return Item{Kind: KindQEIdentity, About: about, From: q.IssueDate, Until: q.NextUpdate}, nil
	case trimmed[0] == '{' && hasMember(trimmed, "payloadType"):
		l, err := policy.ParseHardwareList(content)
		if err != nil {
			return Item{}, err
		}
		b.registry.Lists = append(b.registry.Lists, l)
		about := fmt.Sprintf("%s, %d machines, %d denied", l.Issuer, len(l.Machines), len(l.Denied))
		return Item{Kind: KindHardware, About: about, From: l.Issued, Until: l.Expires}, nil
	case bytes.HasPrefix(trimmed, []byte("eyJ")):
		t, err := policy.ParseProofOfCloudToken(content)
		if err != nil {
			return Item{}, err
		}
		b.registry.Tokens = append(b.registry.Tokens, t)
		return Item{Kind: KindToken, About: fmt.Sprintf("%s, machine %x", t.Label, t.MachineID[:8])}, nil
	}
	// The three DER structures exclude each other: tbsCertificate starts with a version or serial and holds two names, a
	// CRL one name, an OCSP response starts with an ENUMERATED.
	if c, err := x509.ParseCertificate(content); err == nil {
		b.certificates = append(b.certificates, c)
		return Item{Kind: KindCertificate, About: c.Subject.CommonName, From: c.NotBefore, Until: c.NotAfter}, nil
	}
	if list, err := x509.ParseRevocationList(content); err == nil {
		item := Item{Kind: KindCRL, About: list.Issuer.CommonName, From: list.ThisUpdate, Until: list.NextUpdate}
		if strings.HasPrefix(list.Issuer.CommonName, "ARK-") {
			c, err := snp.ParseCRL(content)
			if err != nil {
				return Item{}, err
			}
			b.amdCRLs = append(b.amdCRLs, c)
			return item, nil
		}
		c, err := dcap.ParseCRL(content)
		if err != nil {
			return Item{}, err
		}
		b.crls = append(b.crls, c)
		return item, nil
	}
	item, err := describeOCSP(content)
	if err == nil {
		b.ocsp = append(b.ocsp, content)
	}
	return item, err
}

// describeOCSP takes an error response, too: what it says is for the appraisal.
func describeOCSP(der []byte) (Item, error) {
	r, err := nvidia.ReadOCSP(der)
	var declined nvidia.OCSPError
	switch {
	case errors.As(err, &declined):
		return Item{Kind: KindOCSP, About: declined.Error()}, nil
	case err != nil:
		return Item{}, errUnknown
	}
	return Item{Kind: KindOCSP, About: fmt.Sprintf("certificate %x: %s", r.Serial, r.Status), From: r.From, Until: r.Until}, nil
}

func hasMember(object []byte, name string) bool {
	var m map[string]json.RawMessage
	return json.Unmarshal(object, &m) == nil && m[name] != nil
}

// chainHeaders are the PCS response headers that carry an issuer chain as URL-encoded PEM, in canonical form.
var chainHeaders = map[string]bool{
	"tcb-info-issuer-chain":             true,
	"sgx-tcb-info-issuer-chain":         true,
	"sgx-enclave-identity-issuer-chain": true,
	"sgx-pck-crl-issuer-chain":          true,
	"sgx-pck-certificate-issuer-chain":  true,
}

// split takes one input apart into items in their signed form.
func split(in []byte) ([][]byte, error) {
	if len(in) > MaxBundle {
		return nil, fmt.Errorf("%d bytes, limit %d", len(in), MaxBundle)
	}
	text := bytes.TrimSpace(in)
	switch {
	case len(text) == 0:
		return nil, errors.New("empty")
	case text[0] == '{':
		return splitJSON(text)
	case bytes.HasPrefix(text, []byte("HTTP/")):
		return splitHTTP(bytes.TrimLeft(in, " \t\r\n")) // a DER body may end in what looks like white space
	case bytes.Contains(text, []byte("-----BEGIN ")):
		return splitPEM(text)
	}
	if bytes.HasPrefix(text, []byte("eyJ")) {
		return [][]byte{text}, nil
	}
	// PCS and PCCS give CRLs in hexadecimal when not asked for DER.
	if der, err := hex.DecodeString(string(text)); err == nil {
		return [][]byte{der}, nil
	}
	return [][]byte{in}, nil
}

// splitPEM takes every block; text between them is common in published chains.
func splitPEM(text []byte) ([][]byte, error) {
	var out [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" && block.Type != "X509 CRL" {
			return nil, fmt.Errorf("PEM block %q, want CERTIFICATE or X509 CRL", block.Type)
		}
		out = append(out, block.Bytes)
	}
	if out == nil {
		return nil, errors.New("no PEM block that can be read")
	}
	return out, nil
}

// splitHTTP takes a saved PCS response: status line, headers, blank line, body.
func splitHTTP(text []byte) ([][]byte, error) {
	head, body, ok := bytes.Cut(text, []byte("\r\n\r\n"))
	if !ok {
		head, body, ok = bytes.Cut(text, []byte("\n\n"))
	}
	if !ok {
		return nil, errors.New("an HTTP response without a body")
	}
	out, err := split(body)
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(head), "\n")[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if !chainHeaders[strings.ToLower(name)] {
			continue
		}
		chain, err := unescapeChain(value)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		out = append(out, chain...)
	}
	return out, nil
}

func unescapeChain(value string) ([][]byte, error) {
	plain, err := url.PathUnescape(strings.TrimSpace(value))
	if err != nil {
		return nil, errors.New("not URL-encoded")
	}
	return splitPEM(bytes.TrimSpace([]byte(plain)))
}

// quoteCollateral is the JSON in which several DCAP tools keep what belongs to one quote: strings throughout, CRLs and
// signatures in hexadecimal, chains in PEM.
type quoteCollateral struct {
	PCKCRLIssuerChain     string `json:"pck_crl_issuer_chain"`
	RootCACRL             string `json:"root_ca_crl"`
	PCKCRL                string `json:"pck_crl"`
	TCBInfoIssuerChain    string `json:"tcb_info_issuer_chain"`
	TCBInfo               string `json:"tcb_info"`
	TCBInfoSignature      string `json:"tcb_info_signature"`
	QEIdentityIssuerChain string `json:"qe_identity_issuer_chain"`
	QEIdentity            string `json:"qe_identity"`
	QEIdentitySignature   string `json:"qe_identity_signature"`
}

func splitJSON(text []byte) ([][]byte, error) {
	switch {
	case hasMember(text, "bombyx_collateral"):
		return parseDocument(text)
	case hasMember(text, "tcbInfo"), hasMember(text, "enclaveIdentity"), hasMember(text, "payloadType"):
		return [][]byte{text}, nil
	case hasMember(text, "tcb_info_signature"):
		return splitQuoteCollateral(text)
	case hasMember(text, "rim"):
		// NVIDIA's RIM service wraps the manifest.
		var r struct {
			RIM string `json:"rim"`
		}
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, err
		}
		manifest, err := base64.StdEncoding.DecodeString(r.RIM)
		if err != nil {
			return nil, errors.New(`member "rim" is not base64`)
		}
		return [][]byte{manifest}, nil
	}
	return nil, errUnknown
}

func splitQuoteCollateral(text []byte) ([][]byte, error) {
	var q quoteCollateral
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, err
	}
	out := [][]byte{
		fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, q.TCBInfo, q.TCBInfoSignature),
		fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, q.QEIdentity, q.QEIdentitySignature),
	}
	for _, crl := range []string{q.RootCACRL, q.PCKCRL} {
		if crl == "" {
			continue
		}
		der, err := hex.DecodeString(crl)
		if err != nil {
			return nil, errors.New("CRL is not hexadecimal")
		}
		out = append(out, der)
	}
	for _, chain := range []string{q.PCKCRLIssuerChain, q.TCBInfoIssuerChain, q.QEIdentityIssuerChain} {
		certs, err := splitPEM(bytes.TrimSpace([]byte(strings.TrimRight(chain, "\x00"))))
		if err != nil {
			return nil, err
		}
		out = append(out, certs...)
	}
	return out, nil
}
