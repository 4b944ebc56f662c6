package envelope

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	stdhpke "crypto/hpke"

	"github.com/bombyx-network/bombyx/internal/bhttp"
	"github.com/cloudflare/circl/hpke"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, want)
	}
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The vectors of draft-connolly-cfrg-xwing-kem, appendix C.
func TestXWingVectors(t *testing.T) {
	var vectors []struct{ Seed, Eseed, SK, PK, CT, SS string }
	readJSON(t, "testdata/xwing.json", &vectors)
	for _, v := range vectors {
		kp, err := NewKeyPair(1, XWing, unhex(t, v.SK), AES256GCM)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "public key", kp.Config().PublicKey, unhex(t, v.PK))
		s, err := NewSender(kp.Config())
		if err != nil {
			t.Fatal(err)
		}
		ct, ss, err := s.schedule.kem.EncapsulateDeterministically(s.pk, unhex(t, v.Eseed))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "encapsulated key", ct, unhex(t, v.CT))
		equal(t, "shared secret sealed", ss, unhex(t, v.SS))
		if ss, err = s.schedule.kem.Decapsulate(kp.sk, unhex(t, v.CT)); err != nil {
			t.Fatal(err)
		}
		equal(t, "shared secret opened", ss, unhex(t, v.SS))
	}
	if len(vectors) != 3 {
		t.Errorf("%d vectors", len(vectors))
	}
}

// The base-mode vectors of RFC 9180 appendix A for X25519, and of draft-ietf-hpke-pq for X-Wing.
func TestHPKEVectors(t *testing.T) {
	var vectors []struct {
		KEM            KEM    `json:"kem_id"`
		AEAD           AEAD   `json:"aead_id"`
		Info           string `json:"info"`
		SK             string `json:"skRm"`
		PK             string `json:"pkRm"`
		Enc            string `json:"enc"`
		SharedSecret   string `json:"shared_secret"`
		Key            string `json:"key"`
		BaseNonce      string `json:"base_nonce"`
		ExporterSecret string `json:"exporter_secret"`
		Encryptions    []struct{ AAD, CT, PT string }
		Exports        []struct {
			Context string `json:"exporter_context"`
			L       int
			Value   string `json:"exported_value"`
		}
	}
	readJSON(t, "testdata/hpke.json", &vectors)
	for _, v := range vectors {
		t.Run(v.KEM.String()+" "+v.AEAD.String(), func(t *testing.T) {
			kp, err := NewKeyPair(0, v.KEM, unhex(t, v.SK), v.AEAD)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "public key", kp.Config().PublicKey, unhex(t, v.PK))
			s := kp.schedules[v.AEAD]
			s.setInfo(unhex(t, v.Info))
			shared, err := s.kem.Decapsulate(kp.sk, unhex(t, v.Enc))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "shared secret", shared, unhex(t, v.SharedSecret))
			var d derivation
			key, base, exporter := s.keys(&d, shared)
			equal(t, "key", key, unhex(t, v.Key))
			equal(t, "base nonce", base, unhex(t, v.BaseNonce))
			equal(t, "exporter secret", exporter, unhex(t, v.ExporterSecret))
			for _, e := range v.Exports {
				var d derivation
				equal(t, "export", s.export(&d, exporter, string(unhex(t, e.Context)), e.L), unhex(t, e.Value))
			}
			var seal, open chunkCipher
			if err := seal.init(v.AEAD, key, base); err != nil {
				t.Fatal(err)
			}
			open.init(v.AEAD, key, base)
			for _, e := range v.Encryptions {
				sealed, err := seal.seal(append(make([]byte, 0, 500), unhex(t, e.PT)...), unhex(t, e.AAD))
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "ciphertext", sealed, unhex(t, e.CT))
				plain, err := open.open(sealed, unhex(t, e.AAD))
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "plaintext", plain, unhex(t, e.PT))
			}
		})
	}
	if len(vectors) != 4 {
		t.Errorf("%d vectors", len(vectors))
	}
}

// Our key schedule against circl's and the standard library's, in both roles, with the info string of the format.
func TestSchedule(t *testing.T) {
	for _, k := range []KEM{XWing, X25519} {
		for _, a := range []AEAD{AES128GCM, AES256GCM, ChaCha20Poly1305} {
			kp, err := GenerateKey(9, k, a)
			if err != nil {
				t.Fatal(err)
			}
			s := kp.schedules[a]
			info := append([]byte("message/bhttp chunked request\x00"), s.header...)
			check := func(peer string, x *exchange, open func(sealed, aad []byte) ([]byte, error), export []byte) {
				t.Helper()
				equal(t, peer+": export", x.secret, export)
				for range 3 {
					sealed, err := x.request.seal(append(make([]byte, 0, 50), "chunk"...), finalAAD)
					if err != nil {
						t.Fatal(err)
					}
					plain, err := open(sealed, finalAAD)
					if err != nil {
						t.Fatal(peer, err)
					}
					equal(t, peer, plain, []byte("chunk"))
				}
			}
			pk, err := s.kem.UnmarshalBinaryPublicKey(kp.config.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			suite := hpke.NewSuite(hpke.KEM(k), hpke.KDF_HKDF_SHA256, hpke.AEAD(a))

			x, err := s.sender(pk)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := suite.NewReceiver(kp.sk, info)
			if err != nil {
				t.Fatal(err)
			}
			opener, err := theirs.Setup(x.enc)
			if err != nil {
				t.Fatal(err)
			}
			check("circl opens", x, opener.Open, opener.Export([]byte("message/bhttp chunked response"), uint(len(x.secret))))

			sender, err := suite.NewSender(pk, info)
			if err != nil {
				t.Fatal(err)
			}
			enc, sealer, err := sender.Setup(nil)
			if err != nil {
				t.Fatal(err)
			}
			if x, err = kp.receive(s, enc); err != nil {
				t.Fatal(err)
			}
			equal(t, "circl seals: export", x.secret, sealer.Export([]byte("message/bhttp chunked response"), uint(len(x.secret))))
			sealed, err := sealer.Seal([]byte("chunk"), nil)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := x.request.open(sealed, nil)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "circl seals", plain, []byte("chunk"))

			sk, err := kp.sk.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			kem, err := stdhpke.NewKEM(uint16(k))
			if err != nil {
				t.Fatal(err)
			}
			aead, err := stdhpke.NewAEAD(uint16(a))
			if err != nil {
				t.Fatal(err)
			}
			private, err := kem.NewPrivateKey(sk)
			if err != nil {
				t.Fatal(err)
			}
			if x, err = s.sender(pk); err != nil {
				t.Fatal(err)
			}
			recipient, err := stdhpke.NewRecipient(x.enc, private, stdhpke.HKDFSHA256(), aead, info)
			if err != nil {
				t.Fatal(err)
			}
			export, err := recipient.Export("message/bhttp chunked response", len(x.secret))
			if err != nil {
				t.Fatal(err)
			}
			check("crypto/hpke opens", x, func(sealed, aad []byte) ([]byte, error) { return recipient.Open(aad, sealed) }, export)
		}
	}
}

// receiverFor opens with a key of a specification's example.
func exampleKey(t *testing.T, private, config string) (*KeyPair, KeyConfig) {
	t.Helper()
	c, err := ParseKeyConfig(unhex(t, config))
	if err != nil {
		t.Fatal(err)
	}
	kp, err := NewKeyPair(c.ID, c.KEM, unhex(t, private), c.AEADs...)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "public key", kp.Config().PublicKey, c.PublicKey)
	again, err := kp.Config().AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "key configuration", again, unhex(t, config))
	return kp, c
}

// RFC 9458 appendix A: the encapsulation that the chunked format builds on.
func TestRFC9458(t *testing.T) {
	kp, _ := exampleKey(t, "3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a",
		`01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003`)
	request := unhex(t, `010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b472
		6374e469135906992e1268c594d2a10c695d858c40a026e7965e7d86b83dd440b2c0185204b4d63525`)
	s := newSchedule(labels{"message/bhttp request", "message/bhttp response"}, 1, X25519, AES128GCM)
	equal(t, "header", request[:headerSize], s.header)
	x, err := kp.receive(s, bytes.Clone(request[headerSize:headerSize+32]))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "exported secret", x.secret, unhex(t, "62d87a6ba569ee81014c2641f52bea36"))
	plain, err := x.request.open(bytes.Clone(request[headerSize+32:]), nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "request", plain, unhex(t, "00034745540568747470730b6578616d706c652e636f6d012f"))
	x.request.count = 0
	sealed, err := x.request.seal(append(make([]byte, 0, 100), plain...), nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "sealed request", sealed, request[headerSize+32:])

	response := unhex(t, "c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd")
	var c chunkCipher
	if err := x.responseCipher(&c, response[:16]); err != nil {
		t.Fatal(err)
	}
	equal(t, "response nonce", c.base[:], unhex(t, "f6bf1aeb88d6df87007fa263"))
	plain, err = c.open(bytes.Clone(response[16:]), nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "response", plain, unhex(t, "0140c8"))
	c.count = 0
	sealed, err = c.seal(append(make([]byte, 0, 100), plain...), nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "sealed response", sealed, response[16:])
}

// draft-ietf-ohai-chunked-ohttp-08 appendix A, through the Receiver and the ResponseOpener.
func TestChunkedDraft(t *testing.T) {
	kp, _ := exampleKey(t, "1c190d72acdbe4dbc69e680503bb781a932c70a12c8f3754434c67d8640d8698",
		`010020668eb21aace159803974a4c67f08b4152d29bed10735fd08f98ccdd6fe09570800080001000100010003`)
	request := unhex(t, `01002000010001 8811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a032
		1c2ad24942d4d692563012f2980c8fef437a336b9b2fc938ef77a5834f
		1d2e33d8fd25577afe31bd1c79d094f76b6250ae6549b473ecd950501311
		001c6c1395d0ef7c1022297966307b8a7f`)
	s := kp.schedules[AES128GCM]
	c := newChunkReader(bytes.NewReader(request), 64)
	header, err := c.take(headerSize)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "header", header, s.header)
	enc, err := c.take(32)
	if err != nil {
		t.Fatal(err)
	}
	x, err := kp.receive(s, bytes.Clone(enc))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "exported secret", x.secret, unhex(t, "1d4484834ae36102a6ac42a5523454d9"))
	c.cipher = x.request
	plain, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "request", plain, unhex(t, "00034745540568747470730b6578616d706c652e636f6d012f"))
	equal(t, "sealed request", sealChunks(t, &x.request, plain[:12], plain[12:], nil), request[headerSize+32:])

	response := unhex(t, `bcce7f4cb921309ba5d62edf1769ef09
		1179bf1cc87fa0e2c02de4546945aa3d1e48
		12b348b5bd4c594c16b6170b07b475845d1f32
		00ed9d8a796617a5b27265f4d73247f639`)
	secret := bytes.Clone(x.secret)
	resp, err := (&ResponseOpener{x: x}).Open(bytes.NewReader(response), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 0 || resp.StatusCode != 200 {
		t.Errorf("status %d, body %q, %v", resp.StatusCode, body, err)
	}
	x.secret = secret
	var rc chunkCipher
	if err := x.responseCipher(&rc, response[:16]); err != nil {
		t.Fatal(err)
	}
	equal(t, "response nonce", rc.base[:], unhex(t, "fead854635d2d5527d64f546"))
	equal(t, "sealed response", sealChunks(t, &rc, []byte{1}, []byte{0x40, 0xc8}, nil), response[16:])

	// The same request through the front door is authentic, and refused for want of a Date.
	r, err := NewReceiver(NewReplayGuard(0, 0, atNoon), bhttp.Limits{}, kp)
	if err != nil {
		t.Fatal(err)
	}
	_, sealer, err := r.Open(t.Context(), bytes.NewReader(request))
	if _, ok := err.(*DateError); !ok || sealer == nil {
		t.Errorf("error %v, sealer %v", err, sealer)
	}
}

// sealChunks seals from the start; the last part is the final chunk.
func sealChunks(t testing.TB, c *chunkCipher, parts ...[]byte) []byte {
	t.Helper()
	c.count = 0
	var out []byte
	for i, p := range parts {
		buf := make([]byte, 8+len(p), 8+len(p)+tagSize)
		copy(buf[8:], p)
		var aad []byte
		n := len(p) + tagSize
		if i == len(parts)-1 {
			aad, n = finalAAD, 0
		}
		sealed, err := c.seal(buf[8:], aad)
		if err != nil {
			t.Fatal(err)
		}
		at := putPrefix(buf, 8, n)
		out = append(out, buf[at:8]...)
		out = append(out, sealed...)
	}
	return out
}
