//go:build !race

// A hundred megabytes of JSON take half a minute under the race detector.

package openai_test

import (
	"sync/atomic"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine/openai"
)

// All that an answer has room for gets into it, however long an engine writes its numbers.
func TestEmbeddingsThatFit(t *testing.T) {
	got, _, err := collect(t, driver(t, newFake(t, sized(4096, new(atomic.Int64))), openai.VLLM), texts(1024, ""))
	if err != nil || len(got) != 1 || len(got[0]) < 1024*4096*4*4/3 {
		t.Errorf("%d answers, %v", len(got), err)
	}
}
