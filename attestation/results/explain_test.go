package results_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/results"
)

func TestExplain(t *testing.T) {
	long := bytes.Repeat([]byte{7}, 97)
	r := &attestation.Result{Checks: []check.Check{{ID: "a", Status: check.Pass}, {ID: "b", Status: check.Fail, Detail: "bad\x1b"}, {ID: "c", Status: check.Skip},
		{ID: "d", Status: check.Skip, Detail: "none"}}}
	excerpts := [][]attestation.Excerpt{
		{{Name: "nonce", In: "quote", Offset: 0, Bytes: []byte{1, 2}}, {Name: "all\r", In: "CRL", Offset: -1, Bytes: long[:96]}},
		{{Name: "key", In: "quote", Offset: 12, Bytes: long}},
		nil,
	}
	var b bytes.Buffer
	if err := results.Explain(&b, r, excerpts); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`
The bytes behind the checks
  1  PASS a
       quote, nonce, 2 bytes at 0: 0102
       CRL, all%c, 96 bytes: %x
  2  FAIL b
       quote, key, 97 bytes at 12: %x... SHA-256 %x
  3  SKIP c
       no bytes: the policy and the clock alone
  4  SKIP d
       no bytes: none
`, '\ufffd', long[:96], long[:32], sha256.Sum256(long))
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
