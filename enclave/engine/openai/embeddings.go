package openai

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

const (
	maxInputs     = 2048    // texts of one request for embeddings, as OpenAI has it
	maxDimensions = 1 << 16 // numbers of one embedding
	maxNumbers    = 4 << 20 // numbers of one answer

	// maxEmbeddings is bytes of an engine's answer: a float64 and what separates it from the next take 26 at most.
	maxEmbeddings = 26*maxNumbers + 1<<20
)

var errEmbeddings = errors.New("openai: the engine's embeddings are not those of the request")

// embedding is a request for embeddings: what its answer must be.
type embedding struct {
	model      string
	inputs     int
	dimensions int  // 0: whatever the model has
	base64     bool // the client wants little-endian float32 in base64
	most       int64
	size       int // dimensions of the answer
}

// rewriteEmbeddings returns the body to send. The engine is always asked for numbers: not all know base64, which SDKs ask for unless
// told otherwise.
func (d *Driver) rewriteEmbeddings(req engine.Request, models []engine.Model) (*bytes.Reader, *embedding, error) {
	m, err := object(req.Body, "model", "input", "encoding_format", "dimensions", "user")
	if err != nil {
		return nil, nil, err
	}
	model, err := pickModel(m["model"], models)
	if err != nil {
		return nil, nil, err
	}
	e := &embedding{model: model.ID, most: int64(len(req.Body))}
	if e.inputs, err = inputs(m["input"]); err != nil {
		return nil, nil, at("input", err)
	}
	if v, ok := m["encoding_format"]; ok {
		s, _ := text(v)
		if s != "float" && s != "base64" {
			return nil, nil, invalid("encoding_format", "encoding_format must be float or base64")
		}
		e.base64 = s == "base64"
	}
	out := map[string]any{"model": model.ID, "input": m["input"], "encoding_format": "float"}
	if _, ok := m["dimensions"]; ok {
		if !d.spec.dimensions {
			return nil, nil, unsupported("dimensions", "this engine (%s) does not take the parameter \"dimensions\": leave it out", d.cfg.Flavour)
		}
		if e.dimensions, err = number(m, "dimensions", maxDimensions, 0); err != nil {
			return nil, nil, err
		}
		out["dimensions"] = e.dimensions
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, nil, err
	}
	return bytes.NewReader(b), e, nil
}

// fits refuses what no answer has room for: before the engine works on it, since nobody would pay for that.
func (d *Driver) fits(ctx context.Context, e *embedding) (err error) {
	size := e.dimensions
	if size == 0 && e.inputs > maxNumbers/maxDimensions {
		if size, err = d.size(ctx, e.model); err != nil {
			return err
		}
	}
	if e.inputs*size > maxNumbers {
		return invalid("input", "%d texts of %d numbers each are more than the %d numbers that an answer has room for: send up to %d texts at once", e.inputs, size, maxNumbers, maxNumbers/size)
	}
	return nil
}

// size is how many numbers the model's embeddings have, as a short text shows once.
func (d *Driver) size(ctx context.Context, model string) (int, error) {
	if n, ok := d.sizes.Load(model); ok {
		return n.(int), nil
	}
	body, err := json.Marshal(map[string]string{"model": model, "input": "a"})
	if err != nil {
		return 0, err
	}
	s, err := d.Start(ctx, engine.Request{Path: engine.PathEmbeddings, Body: body})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if _, err := s.Next(); err != nil {
		return 0, err
	}
	n := s.(*stream).embedding.size
	d.sizes.Store(model, n)
	return n, nil
}

// inputs counts the texts of an input.
func inputs(v json.RawMessage) (int, error) {
	const want = "must be a text, or a list of up to 2048 texts, none of them empty; send texts, not tokens: only the engine has the model's tokenizer"
	if s, err := text(v); err == nil && s != "" {
		return 1, nil
	}
	var list []string
	if absent(v) || json.Unmarshal(v, &list) != nil || len(list) == 0 || len(list) > maxInputs || slices.Contains(list, "") {
		return 0, invalid("", want)
	}
	return len(list), nil
}

// vector is one embedding. encoding/json reads null as 0; some writers mean by it what is not a number.
type vector []float32

func (v *vector) UnmarshalJSON(b []byte) error {
	if bytes.Contains(b, []byte("null")) {
		return errEmbeddings
	}
	return json.Unmarshal(b, (*[]float32)(v))
}

// answer reads the engine's answer and writes the client's: in order, complete, and nothing else.
func (e *embedding) answer(b []byte) ([]byte, engine.Usage, error) {
	var u engine.Usage
	var in struct {
		Object string `json:"object"`
		Data   []struct {
			Index     *int   `json:"index"`
			Embedding vector `json:"embedding"`
		} `json:"data"`
		Usage struct {
			Prompt *int64 `json:"prompt_tokens"`
		} `json:"usage"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, u, errMalformed
	}
	if !absent(in.Error) {
		return nil, u, requestError(500, b)
	}
	switch {
	case in.Usage.Prompt == nil || *in.Usage.Prompt < 1:
		return nil, u, errUncounted
	case *in.Usage.Prompt > e.most:
		return nil, u, errOvercount
	case in.Object != "list" || len(in.Data) != e.inputs:
		return nil, u, errEmbeddings
	}
	size := len(in.Data[0].Embedding)
	if size == 0 || size > maxDimensions || e.dimensions != 0 && size != e.dimensions {
		return nil, u, errEmbeddings
	}
	out := append(make([]byte, 0, len(b)), `{"object":"list","data":[`...)
	for i, d := range in.Data {
		if d.Index == nil || *d.Index != i || len(d.Embedding) != size {
			return nil, u, errEmbeddings
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, `{"object":"embedding","index":%d,"embedding":`, i)
		out = append(e.append(out, d.Embedding), '}')
	}
	model, err := json.Marshal(e.model)
	if err != nil {
		return nil, u, err
	}
	e.size = size
	u.Prompt = *in.Usage.Prompt
	return fmt.Appendf(out, `],"model":%s,"usage":{"prompt_tokens":%d,"total_tokens":%d}}`, model, u.Prompt, u.Prompt), u, nil
}

func (e *embedding) append(out []byte, numbers []float32) []byte {
	if e.base64 {
		raw := make([]byte, 0, 4*len(numbers))
		for _, f := range numbers {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
		}
		out = append(out, '"')
		return append(base64.StdEncoding.AppendEncode(out, raw), '"')
	}
	out = append(out, '[')
	for i, f := range numbers {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendFloat(out, float64(f), 'g', -1, 32)
	}
	return append(out, ']')
}
