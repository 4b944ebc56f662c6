//go:build linux

package llama_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded/kernel"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/llama"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/model"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/modeltest"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/oracle"
)

// BenchmarkOneThread generates 128 tokens after a prompt of 256, on one thread, and prints the speeds of both parts. Where
// llama.cpp is installed it runs on the same file in the same run: "×llama.cpp" is our speed as a multiple of its speed.
// Speeds are by processor time, the best of several rounds, for the machine may be shared; llama.cpp's includes node's
// own work, which matters for the smallest model.
func BenchmarkOneThread(b *testing.B) {
	for _, c := range []struct {
		name string
		spec modeltest.Spec // zero for the model that ships
	}{
		{"shipped", modeltest.Spec{}},
		{"15M-Q8_0", modeltest.Spec{Architecture: "llama", Type: "Q8_0", Width: 384, Layers: 9, Heads: 6, KVHeads: 2, FeedForward: 1024, ContextLength: 1024}},
		{"15M-F32", modeltest.Spec{Architecture: "llama", Type: "F32", Width: 384, Layers: 9, Heads: 6, KVHeads: 2, FeedForward: 1024, ContextLength: 1024}},
		{"15M-F16", modeltest.Spec{Architecture: "llama", Type: "F16", Width: 384, Layers: 9, Heads: 6, KVHeads: 2, FeedForward: 1024, ContextLength: 1024}},
		{"107M-Q8_0", modeltest.Spec{Architecture: "llama", Type: "Q8_0", Width: 576, Layers: 30, Heads: 9, KVHeads: 3, FeedForward: 1536, ContextLength: 1024}},
	} {
		b.Run(c.name, func(b *testing.B) {
			data := model.GGUF()
			if c.spec.Architecture != "" {
				data = modeltest.Make(c.spec)
			}
			m, _ := load(b, data)
			prompt, answer := 256, 128
			ids := make([]int, prompt)
			r := rand.New(rand.NewPCG(1, 1))
			for i := range ids {
				ids[i] = len(modeltest.Special) + r.IntN(m.Vocabulary-len(modeltest.Special))
			}
			pool := kernel.NewPool(1)
			defer pool.Close()
			runner := m.NewRunner(pool, 64)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			promptTime, answerTime := math.Inf(1), math.Inf(1)
			for b.Loop() {
				cache := sequence(m, prompt+answer)
				start := threadSeconds(b)
				var logits [][]float32
				for at := 0; at < prompt; at += runner.MaxRows() {
					var rows []llama.Row
					for i := at; i < min(at+runner.MaxRows(), prompt); i++ {
						rows = append(rows, llama.Row{Cache: cache, Token: ids[i], Logits: i == prompt-1})
					}
					logits = runner.Forward(rows)
				}
				next := argmax(logits[0])
				mid := threadSeconds(b)
				for range answer - 1 {
					next = argmax(runner.Forward([]llama.Row{{Cache: cache, Token: next, Logits: true}})[0])
				}
				promptTime, answerTime = min(promptTime, mid-start), min(answerTime, threadSeconds(b)-mid)
			}
			b.ReportMetric(float64(prompt)/promptTime, "prompt-tok/s")
			b.ReportMetric(float64(answer-1)/answerTime, "answer-tok/s")
			if why := oracle.Missing(); why != "" {
				b.Log("no comparison: " + why)
				return
			}
			peer := oracle.Ask(b, oracle.Question{Model: data, Jobs: []oracle.Job{{IDs: ids, Generate: answer, Repeat: 5}}})[0][0]
			b.ReportMetric(peer.PromptSeconds/promptTime, "prompt-×llama.cpp")
			b.ReportMetric(peer.GenerateSeconds/float64(len(peer.IDs)-1)/(answerTime/float64(answer-1)), "answer-×llama.cpp")
		})
	}
}

// threadSeconds is the processor time of the calling thread.
func threadSeconds(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
