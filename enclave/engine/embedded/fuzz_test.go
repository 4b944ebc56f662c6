package embedded_test

import (
	"bytes"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine/embedded"
	"github.com/bombyx-network/bombyx/enclave/engine/embedded/modeltest"
)

// FuzzModel loads damaged models and, where one still loads, runs a request.
func FuzzModel(f *testing.F) {
	spec := modeltest.Spec{Architecture: "qwen3", Type: "Q8_0", Width: 32, Layers: 1, FeedForward: 32, ContextLength: 64}
	byteLevel := modeltest.Make(spec)
	spec.PreTokenizer = "default"
	sentencePiece := modeltest.Make(spec)
	meta := bytes.Index(byteLevel, []byte("token_embd.weight"))
	for _, at := range []int{40, meta - 100, meta + 40, len(byteLevel) - 100} {
		f.Add(at, []byte{1}, 0, false)
	}
	f.Add(bytes.Index(byteLevel, []byte("qwen3.block_count"))+17+4, []byte{2}, 0, false)
	f.Add(bytes.Index(byteLevel, []byte("{% for message"))+3, []byte("if"), 100, false)
	for _, name := range []string{"ggml.scores", "ggml.token_type", "<0x41>", "▁the"} {
		f.Add(bytes.Index(sentencePiece, []byte(name))+len(name)+24, []byte{0xff, 0xff}, 0, true)
	}
	f.Fuzz(func(t *testing.T, at int, with []byte, cut int, spaces bool) {
		whole := byteLevel
		if spaces {
			whole = sentencePiece
		}
		data := bytes.Clone(whole)
		if at < 0 || at > len(data) || cut < 0 || cut > len(data)-at {
			return
		}
		data = append(append(data[:at:at], with...), data[min(at+cut, len(data)):]...)
		if cut == 0 && len(with) > 0 { // in place
			data = bytes.Clone(whole)
			copy(data[at:], with)
		}
		e, err := embedded.New(bytes.NewReader(data), int64(len(data)), embedded.Options{ModelID: "tiny", Threads: 1, CacheBytes: 1 << 20})
		if err != nil {
			return
		}
		defer e.Close()
		for _, b := range []string{body("Hello", `"max_tokens":2`), `{"model":"tiny","prompt":"Hello, 日本 2026","max_tokens":2}`} {
			st, err := e.Start(t.Context(), request(b))
			if err != nil {
				continue
			}
			for err == nil {
				_, err = st.Next()
			}
			st.Close()
		}
	})
}
