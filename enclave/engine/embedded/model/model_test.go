package model_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/model"
)

func TestDigest(t *testing.T) {
	b := model.GGUF()
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); got != model.SHA256 {
		t.Errorf("the embedded file has SHA-256 %s, the code says %s", got, model.SHA256)
	}
	if len(b) > 4<<20 {
		t.Errorf("%d bytes: it is to stay below 4 MiB", len(b))
	}
	card, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(card), model.SHA256) {
		t.Error("the model card names another file")
	}
	b[0] ^= 1
	if model.GGUF()[0] == b[0] {
		t.Error("callers share one copy")
	}
}
