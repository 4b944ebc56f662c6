package strictjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

type doc struct {
	Name  string            `json:"name"`
	Raw   []byte            `json:"raw"`
	ID    [2]byte           `json:"id"`
	When  time.Time         `json:"when"`
	N     uint8             `json:"n"`
	OK    bool              `json:"ok"`
	List  []inner           `json:"list"`
	Notes map[string]string `json:"notes"`
	Any   Raw               `json:"any"`
	Maybe *int              `json:"maybe,optional"`
}

type inner struct {
	A int `json:"a"`
}

const good = `{"name":"x\u0041","raw":"AQI=","id":"00ff","when":"2026-01-02T03:04:05Z","n":7,"ok":true,"list":[{"a":-1},{"a":2}],"notes":{"b":"c"},"any":{}}`

func TestRoundTrip(t *testing.T) {
	var d doc
	if err := Unmarshal([]byte(good), &d, 1000); err != nil {
		t.Fatal(err)
	}
	want := doc{Name: "xA", Raw: []byte{1, 2}, ID: [2]byte{0, 255}, When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), N: 7,
		OK: true, List: []inner{{-1}, {2}}, Notes: map[string]string{"b": "c"}, Any: Raw("{}")}
	if !reflect.DeepEqual(d, want) {
		t.Fatalf("got %+v", d)
	}
	out, err := Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Replace(good, `x\u0041`, "xA", 1); string(out) != got {
		t.Fatalf("got  %s\nwant %s", out, got)
	}
}

func TestRaw(t *testing.T) {
	for _, v := range []string{`null`, `[1,{"a":"}"}]`, `"\"}"`, ` -1.5e3 `, `{"n":1,"n":2}`} {
		in := strings.Replace(good, `"any":{}`, `"any":`+v, 1)
		var d doc
		if err := Unmarshal([]byte(in), &d, 1000); err != nil || string(d.Any) != strings.TrimSpace(v) {
			t.Errorf("%s: %v, %s", v, err, d.Any)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown member", `"n":7`, `"n":7,"m":1`, "m: unknown member"},
		{"duplicate member", `"n":7`, `"n":7,"n":7`, "n: duplicate member"},
		{"duplicate by escape", `"n":7`, `"n":7,"\u006e":7`, "n: duplicate member"},
		{"case variant", `"n":7`, `"N":7`, "N: unknown member"},
		{"missing member", `"n":7,`, ``, "n: missing"},
		{"null", `"n":7`, `"n":null`, "n: want"},
		{"null for optional", `"n":7`, `"n":7,"maybe":null`, "maybe: want"},
		{"fraction", `"n":7`, `"n":7.0`, "n: want"},
		{"exponent", `"n":7`, `"n":1e1`, "n: want"},
		{"overflow", `"n":7`, `"n":256`, "n: want"},
		{"negative", `"n":7`, `"n":-1`, "n: want"},
		{"number as string", `"n":7`, `"n":"7"`, "n: want"},
		{"base64 without padding", `AQI=`, `AQI`, "raw: not canonical base64"},
		{"base64 with trailing bits", `AQI=`, `AQJ=`, "raw: not canonical base64"},
		{"base64 with line break", `AQI=`, `AQ\nI=`, "raw: not canonical base64"},
		{"base64 over two lines", `AQI=`, "AQ\nI=", "raw: not canonical base64"},
		{"base64 with carriage return", `AQI=`, "AQI=\r", "raw: not canonical base64"},
		{"base64 unfinished", good[strings.Index(good, `AQI=`):], `AQI=`, "raw: string without an end"},
		{"number for base64", `"AQI="`, `1`, "raw: want a string"},
		{"base64 url alphabet", `AQI=`, `__8=`, "raw: not canonical base64"},
		{"upper-case hex", `00ff`, `00FF`, "id: want"},
		{"short hex", `00ff`, `00`, "id: want"},
		{"not hex", `00ff`, `00zz`, "id: want"},
		{"time with offset", `05Z`, `05+00:00`, "when: want"},
		{"time with fraction", `05Z`, `05.5Z`, "when: want"},
		{"duplicate in map", `"b":"c"`, `"b":"c","b":"c"`, "notes.b: duplicate member"},
		{"unknown in list", `{"a":2}`, `{"a":2,"b":1}`, "list[1].b: unknown member"},
		{"object for array", `[{"a":-1},{"a":2}]`, `{}`, "list: want an array"},
		{"array for object", `{"b":"c"}`, `[]`, "notes: want an object"},
		{"trailing data", `"any":{}}`, `"any":{}} {}`, "data after"},
		{"trailing NUL", `"any":{}}`, "\"any\":{}}\x00", "data after"},
		{"leading zero", `"n":7`, `"n":07`, "n: want"},
		{"plus sign", `"n":7`, `"n":+7`, "n: want"},
		{"minus alone", `{"a":2}`, `{"a":-}`, "list[1].a: want"},
		{"underscore", `"n":7`, `"n":1_0`, "n: want"},
		{"trailing comma in object", `"notes":{"b":"c"}`, `"notes":{"b":"c",}`, "notes: want a string"},
		{"trailing comma in array", `{"a":2}]`, `{"a":2},]`, "list[2]: want an object"},
		{"missing comma", `"n":7,`, `"n":7 `, "want ','"},
		{"two commas", `"n":7,`, `"n":7,,`, "want a string"},
		{"missing colon", `"n":7`, `"n" 7`, "n: want ':'"},
		{"malformed raw value", `"any":{}`, `"any":{]`, "any: not well-formed"},
		{"no raw value", `"any":{}`, `"any":`, "any: not well-formed"},
		{"trailing after a raw value", `"any":{}`, `"any":{} x`, "want ','"},
		{"comment", `"n":7`, `/* */"n":7`, "want a string"},
		{"control character", `x\u0041`, "x\x01", "name: control character"},
		{"line break in string", `x\u0041`, "x\n", "name: control character"},
		{"bad escape", `x\u0041`, `x\q`, "name: string with a bad escape"},
		{"unfinished", `"notes":{"b":"c"},"any":{}}`, ``, "want a string, found the end"},
		{"unfinished string", `"notes":{"b":"c"},"any":{}}`, `"no`, "string without an end"},
		{"unfinished escape", `"notes":{"b":"c"},"any":{}}`, `"no\`, "string without an end"},
		{"escaped base64", `AQI=`, `AQI\u003d`, "raw: not canonical base64"},
		{"invalid UTF-8", `x\u0041`, "\xff", "UTF-8"},
		{"string for boolean", `true`, `"true"`, "ok: want"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Replace(good, c.old, c.new, 1)
			if in == good {
				t.Fatal("the case changes nothing")
			}
			err := Unmarshal([]byte(in), new(doc), 1000)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	if err := Unmarshal([]byte(good), new(doc), len(good)-1); err == nil {
		t.Fatal("a document above the limit was accepted")
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, in []byte) {
		var d doc
		if Unmarshal(in, &d, 1<<16) != nil {
			return
		}
		if !json.Valid(in) {
			t.Fatalf("accepted what is not JSON: %q", in)
		}
		out, err := Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again doc
		if err := Unmarshal(out, &again, 1<<20); err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("%v: %s", err, out)
		}
	})
}
