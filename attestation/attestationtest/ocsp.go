package attestationtest

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// oidNonce is id-pkix-ocsp-nonce (RFC 9654).
var oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

// OCSPOptions says what the mock NVIDIA's responder answers.
type OCSPOptions struct {
	// Now dates the answers, which hold for a day.
	Now time.Time
	// Revoked and Held are nodes whose devices' identity certificates are revoked or on hold.
	Revoked, Held []*Node
	// Nonce is echoed when it is not nil.
	Nonce []byte
}

// AnswerOCSP answers a request about one certificate that this NVIDIA issued (RFC 6960).
func (a *Authority) AnswerOCSP(request []byte, o OCSPOptions) ([]byte, error) {
	req, err := ocsp.ParseRequest(request)
	if err != nil {
		return nil, fmt.Errorf("attestationtest: %w", err)
	}
	n := a.nvidia
	for _, s := range []*signer{n.deviceRoot, n.identity, n.gpuICA, n.switchICA, n.rimRoot, n.rimCA, n.rimIssuer} {
		h := req.HashAlgorithm.New()
		h.Write(must(s.key.PublicKey.Bytes()))
		if !bytes.Equal(h.Sum(nil), req.IssuerKeyHash) {
			continue
		}
		t := ocsp.Response{Status: ocsp.Good, SerialNumber: req.SerialNumber, IssuerHash: req.HashAlgorithm,
			ThisUpdate: o.Now.Add(-time.Hour), NextUpdate: o.Now.Add(24 * time.Hour), SignatureAlgorithm: x509.ECDSAWithSHA384}
		for reason, nodes := range map[int][]*Node{ocsp.CertificateHold: o.Held, ocsp.KeyCompromise: o.Revoked} {
			for _, node := range nodes {
				for _, d := range slices.Concat(node.gpus, node.switches) {
					if d.identity.SerialNumber.Cmp(req.SerialNumber) == 0 {
						t.Status, t.RevocationReason, t.RevokedAt = ocsp.Revoked, reason, o.Now.Add(-2*time.Hour)
					}
				}
			}
		}
		if o.Nonce != nil {
			t.ExtraExtensions = []pkix.Extension{{Id: oidNonce, Value: must(asn1.Marshal(o.Nonce))}}
		}
		return ocsp.CreateResponse(s.cert, s.cert, t, s.key)
	}
	return nil, fmt.Errorf("attestationtest: OCSP request about a certificate of a stranger")
}

// ocspAnswers asks about every certificate of the nodes' devices and of the RIMs' signers that NVIDIA answers for.
func (a *Authority) ocspAnswers(o OCSPOptions, nodes []*Node) [][]byte {
	n := a.nvidia
	pairs := [][2]*x509.Certificate{{n.identity.cert, n.deviceRoot.cert}, {n.gpuICA.cert, n.identity.cert}, {n.switchICA.cert, n.identity.cert},
		{n.rimSigner.cert, n.rimIssuer.cert}, {n.rimIssuer.cert, n.rimCA.cert}, {n.rimCA.cert, n.rimRoot.cert}}
	for _, node := range nodes {
		for _, d := range node.gpus {
			pairs = append(pairs, [2]*x509.Certificate{d.identity, n.gpuICA.cert})
		}
		for _, d := range node.switches {
			pairs = append(pairs, [2]*x509.Certificate{d.identity, n.switchICA.cert})
		}
	}
	var out [][]byte
	for _, p := range pairs {
		request := must(ocsp.CreateRequest(p[0], p[1], &ocsp.RequestOptions{Hash: crypto.SHA256}))
		out = append(out, must(a.AnswerOCSP(request, o)))
	}
	return out
}
