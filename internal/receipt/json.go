package receipt

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/bombyx-network/bombyx/internal/strictjson"
)

// Each answer's receipt is encoded once and decoded once. The code here does that without reflection, for the one
// spelling that encoding/json gives a receipt; strictjson decodes any other. FuzzJSON holds the two against each other.

// appendJSON appends what json.Marshal returns.
func (r *Receipt) appendJSON(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"v":`...), int64(r.Version), 10)
	b = appendString(append(b, `,"id":`...), r.ID)
	b = appendString(append(b, `,"channel":`...), r.Channel)
	b = appendDigest(append(b, `,"evidence":`...), &r.Evidence)
	b = appendDigest(append(b, `,"manifest":`...), &r.Manifest)
	b = appendString(append(b, `,"model":`...), r.Model)
	b = appendDigest(append(b, `,"request":`...), &r.Request)
	b = appendDigest(append(b, `,"answer":`...), &r.Answer)
	b = strconv.AppendUint(append(b, `,"usage":{"prompt":`...), r.Usage.Prompt, 10)
	b = strconv.AppendUint(append(b, `,"cached":`...), r.Usage.Cached, 10)
	b = strconv.AppendUint(append(b, `,"completion":`...), r.Usage.Completion, 10)
	b = strconv.AppendUint(append(b, `,"reasoning":`...), r.Usage.Reasoning, 10)
	b = appendDigest(append(b, `},"prices":`...), &r.Prices)
	b = strconv.AppendUint(append(b, `,"cost":`...), r.Cost, 10)
	b = appendString(append(b, `,"finish":`...), string(r.Finish))
	b = strconv.AppendInt(append(b, `,"time":`...), r.Time, 10)
	return append(b, '}')
}

func appendDigest(b []byte, d *Digest) []byte {
	return append(hex.AppendEncode(append(b, '"'), d[:]), '"')
}

func appendString(b []byte, s string) []byte {
	if plain(s) == len(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always encode
	}
	return append(b, quoted...)
}

// plain returns how many bytes of s come before one that JSON may escape.
func plain(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return i
		}
	}
	return len(s)
}

// decode is strictjson.Decode.
func decode(b []byte) (*Receipt, error) {
	r, s := new(Receipt), spelling{left: string(b)}
	r.Version = int(s.number(`{"v":`, math.MaxInt32))
	r.ID = s.text(`,"id":"`)
	r.Channel = s.text(`,"channel":"`)
	s.digest(`,"evidence":"`, &r.Evidence)
	s.digest(`,"manifest":"`, &r.Manifest)
	r.Model = s.text(`,"model":"`)
	s.digest(`,"request":"`, &r.Request)
	s.digest(`,"answer":"`, &r.Answer)
	r.Usage.Prompt = s.number(`,"usage":{"prompt":`, math.MaxUint64)
	r.Usage.Cached = s.number(`,"cached":`, math.MaxUint64)
	r.Usage.Completion = s.number(`,"completion":`, math.MaxUint64)
	r.Usage.Reasoning = s.number(`,"reasoning":`, math.MaxUint64)
	s.digest(`},"prices":"`, &r.Prices)
	r.Cost = s.number(`,"cost":`, math.MaxUint64)
	r.Finish = Finish(s.text(`,"finish":"`))
	r.Time = int64(s.number(`,"time":`, math.MaxInt64))
	if !s.other && s.left == "}" {
		return r, nil
	}
	r = new(Receipt)
	if err := strictjson.Decode(b, MaxSize, r); err != nil {
		return nil, err
	}
	return r, nil
}

// A spelling reads a document that can be spelt in one way only. What it
// returns means nothing once other is set.
type spelling struct {
	left  string
	other bool // the document is spelt in another way
}

func (s *spelling) expect(text string) {
	rest, ok := strings.CutPrefix(s.left, text)
	s.left, s.other = rest, s.other || !ok
}

// text reads a string that needs no escapes.
func (s *spelling) text(before string) string {
	s.expect(before)
	v := s.left[:plain(s.left)]
	s.left = s.left[len(v):]
	s.expect(`"`)
	return v
}

func (s *spelling) number(before string, most uint64) uint64 {
	s.expect(before)
	n := 0
	for n < len(s.left) && '0' <= s.left[n] && s.left[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(s.left[:n], 10, 64)
	s.other = s.other || err != nil || v > most || n > 1 && s.left[0] == '0'
	s.left = s.left[n:]
	return v
}

func (s *spelling) digest(before string, d *Digest) {
	s.expect(before)
	v := s.left[:min(len(s.left), 2*len(d))]
	if s.other = s.other || !IsHex(v, len(d)); !s.other {
		hex.Decode(d[:], []byte(v))
	}
	s.left = s.left[len(v):]
	s.expect(`"`)
}
