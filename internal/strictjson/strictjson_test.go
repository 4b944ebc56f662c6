package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

type doc struct {
	A int            `json:"a"`
	L []inner        `json:"l"`
	M map[string]int `json:"m"`
}
type inner struct {
	B string `json:"b"`
}

func TestDecode(t *testing.T) {
	var d doc
	if err := Decode([]byte(` {"a":1,"l":[{"b":"x"}],"m":{"Any":2}} `), 100, &d); err != nil {
		t.Fatal(err)
	}
	if d.A != 1 || d.L[0].B != "x" || d.M["Any"] != 2 {
		t.Fatalf("%+v", d)
	}
	for name, s := range map[string]string{
		"unknown":           `{"z":1}`,
		"unknown inside":    `{"l":[{"c":"x"}]}`,
		"case variant":      `{"A":1}`,
		"duplicate":         `{"a":1,"a":1}`,
		"duplicate in map":  `{"m":{"x":1,"x":2}}`,
		"21st is duplicate": `{"m":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"r":1,"s":1,"t":1,"b":1}}`,
		"escaped duplicate": `{"a":1,"\u0061":2}`,
		"trailing":          `{"a":1} {}`,
		"trailing comma":    `{"a":1,}`,
		"truncated":         `{"a":1`,
		"empty":             ``,
		"not UTF-8":         "{\"a\":\"\xff\"}",
		"wrong type":        `{"a":"1"}`,
		"too long":          `{"a":1` + strings.Repeat(" ", 160) + `}`,
	} {
		if err := Decode([]byte(s), 160, new(doc)); err == nil {
			t.Errorf("%s: accepted %q", name, s)
		}
	}
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	if err := Decode([]byte(deep), 100, new(any)); err == nil {
		t.Error("nesting of 40 accepted")
	}
}

func TestCheckObject(t *testing.T) {
	for s, want := range map[string]bool{
		`{"x":{"y":[1,{"z":1}]}}`: true, `{}`: true,
		`[]`: false, `null`: false, `1`: false, `{"x":{"y":1,"y":1}}`: false,
	} {
		if err := CheckObject([]byte(s), 100); (err == nil) != want {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":1,"l":[{"b":"x"}],"m":{"k":2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if Decode(b, 1<<16, new(doc)) == nil && !json.Valid(b) {
			t.Fatalf("accepted invalid JSON %q", b)
		}
	})
}

// FuzzDuplicates holds the walk against the standard library's.
func FuzzDuplicates(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":{},"c":"\\\""}],"\u0061":1e5, "d" : null }`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if CheckObject(b, 1<<16) != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(string(b)))
		var walk func() error
		walk = func() error {
			tok, err := d.Token()
			if err != nil {
				return err
			}
			delim, ok := tok.(json.Delim)
			if !ok {
				return nil
			}
			seen := map[string]bool{}
			for d.More() {
				if delim == '{' {
					name, err := d.Token()
					if err != nil {
						return err
					}
					if seen[name.(string)] {
						t.Fatalf("%q repeats %q", b, name)
					}
					seen[name.(string)] = true
				}
				if err := walk(); err != nil {
					return err
				}
			}
			_, err = d.Token()
			return err
		}
		if err := walk(); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
	})
}

func BenchmarkCheckObject(b *testing.B) {
	doc := []byte(`{"model":"test-model","stream":true,"max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckObject(doc, 1<<10); err != nil {
			b.Fatal(err)
		}
	}
}
