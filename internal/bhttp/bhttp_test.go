package bhttp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func reader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

func readRequest(b []byte) (*http.Request, []byte, error) {
	req, err := ReadRequest(reader(b), Limits{})
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(req.Body)
	return req, body, err
}

func readResponse(b []byte, req *http.Request) (*http.Response, []byte, error) {
	resp, err := ReadResponse(reader(b), req, Limits{}, nil)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// The examples of RFC 9292 section 5.
const (
	exampleKnown = `0003474554056874747073000a2f6865 6c6c6f2e747874406c0a757365722d61 67656e74346375726c2f372e31362e33
		206c69626375726c2f372e31362e3320 4f70656e53534c2f302e392e376c207a 6c69622f312e322e3304686f73740f77
		77772e6578616d706c652e636f6d0f61 63636570742d6c616e67756167650665 6e2c206d690000`
	exampleIndeterminate = `0203474554056874747073000a2f6865 6c6c6f2e7478740a757365722d616765 6e74346375726c2f372e31362e33206c
		69626375726c2f372e31362e33204f70 656e53534c2f302e392e376c207a6c69 622f312e322e3304686f73740f777777
		2e6578616d706c652e636f6d0f616363 6570742d6c616e677561676506656e2c 206d6900000000000000000000000000`
	exampleResponse = `0340660772756e6e696e670a22736c65 657020313522004067046c696e6b233c 2f7374796c652e6373733e3b2072656c
		3d7072656c6f61643b2061733d737479 6c65046c696e6b243c2f736372697074 2e6a733e3b2072656c3d7072656c6f61
		643b2061733d7363726970740040c804 646174651d4d6f6e2c203237204a756c 20323030392031323a32383a35332047
		4d540673657276657206417061636865 0d6c6173742d6d6f6469666965641d57 65642c203232204a756c203230303920
		31393a31353a353620474d5404657461 671422333461613338372d642d313536 3865623030220d6163636570742d7261
		6e6765730562797465730e636f6e7465 6e742d6c656e67746802353104766172 790f4163636570742d456e636f64696e
		670c636f6e74656e742d747970650a74 6578742f706c61696e003348656c6c6f 20576f726c6421204d7920636f6e7465
		6e7420696e636c756465732061207472 61696c696e672043524c462e0d0a0000`
	exampleTrailer = `0140c8001d5468697320636f6e74656e 7420636f6e7461696e732043524c462e 0d0a0d07747261696c65720474657874`
)

func TestExampleRequests(t *testing.T) {
	for name, ex := range map[string]struct {
		hex  string
		less int // bytes that can be cut off the end without a change
	}{"known length": {exampleKnown, 2}, "indeterminate length": {exampleIndeterminate, 12}} {
		b := unhex(t, ex.hex)
		for cut := 0; cut < len(b); cut++ {
			req, body, err := readRequest(b[:len(b)-cut])
			// A section that is missing altogether counts as empty.
			if end := len(b) - cut; cut > ex.less && end != len(unhex(t, "0003474554056874747073000a2f68656c6c6f2e747874")) {
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s, cut by %d: %v", name, cut, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s, cut by %d: %v", name, cut, err)
			}
			if cut > ex.less {
				continue
			}
			want := http.Header{
				"User-Agent":      {"curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"},
				"Accept-Language": {"en, mi"},
			}
			if req.Method != "GET" || req.URL.String() != "https://www.example.com/hello.txt" || req.Host != "www.example.com" ||
				len(body) != 0 || fmt.Sprint(req.Header) != fmt.Sprint(want) {
				t.Errorf("%s, cut by %d: %+v", name, cut, req)
			}
		}
	}
}

func TestExampleResponses(t *testing.T) {
	var got []string
	resp, err := ReadResponse(reader(unhex(t, exampleResponse)), nil, Limits{}, func(status int, h http.Header) {
		got = append(got, fmt.Sprint(status, h))
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := `[102 map[Running:["sleep 15"]] 103 map[Link:[</style.css>; rel=preload; as=style </script.js>; rel=preload; as=script]]]`; fmt.Sprint(got) != want {
		t.Errorf("informational %v", got)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "Hello World! My content includes a trailing CRLF.\r\n" {
		t.Errorf("body %q, %v", body, err)
	}
	if resp.Status != "200 OK" || resp.ContentLength != 51 || resp.Header.Get("Etag") != `"34aa387-d-1568eb00"` || len(resp.Header) != 8 {
		t.Errorf("%+v", resp)
	}

	resp, body, err = readResponse(unhex(t, exampleTrailer), nil)
	if err != nil || string(body) != "This content contains CRLF.\r\n" || resp.ContentLength != 29 || resp.Trailer.Get("Trailer") != "text" {
		t.Errorf("%q, %+v, %v", body, resp, err)
	}
	if _, body, err = readResponse(unhex(t, "0140c8"), nil); err != nil || len(body) > 0 {
		t.Errorf("status alone: %q, %v", body, err)
	}
}

// Sections may be cut where RFC 9292 section 3.8 says, and nowhere else.
func TestTruncation(t *testing.T) {
	for _, c := range []struct {
		name, whole string
		ends        []int // lengths at which the message is complete
	}{
		{"known", "\x01\x40\xc8\x04\x01a\x01b\x02hi\x04\x01c\x01d\x00", []int{3, 8, 11, 16, 17}},
		{"known, empty", "\x01\x40\xc8\x00\x00\x00\x00", []int{3, 4, 5, 6, 7}},
		{"indeterminate", "\x03\x40\xc8\x01a\x01b\x00\x02hi\x00\x01c\x01d\x00\x00", []int{3, 8, 12, 17, 18}},
		{"indeterminate, empty", "\x03\x40\xc8\x00\x00\x00\x00", []int{3, 4, 5, 6, 7}},
	} {
		complete := map[int]bool{}
		for _, n := range c.ends {
			complete[n] = true
		}
		for n := range len(c.whole) + 1 {
			_, _, err := readResponse([]byte(c.whole[:n]), nil)
			if complete[n] != (err == nil) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, %d bytes: %v", c.name, n, err)
			}
		}
	}
}

func TestInvalid(t *testing.T) {
	head := "\x00\x03GET\x05https\x01a\x01/"
	field := func(name, value string) string {
		line := string(AppendVarint(nil, uint64(len(name)))) + name + string(AppendVarint(nil, uint64(len(value)))) + value
		return head + string(AppendVarint(nil, uint64(len(line)))) + line
	}
	// Without an authority the host field is the target: it must be one host.
	unnamed := "\x00\x03GET\x05https\x00\x01/"
	hosts := func(values ...string) string {
		var lines string
		for _, v := range values {
			lines += "\x04host" + string(rune(len(v))) + v
		}
		return unnamed + string(rune(len(lines))) + lines
	}
	if req, _, err := readRequest([]byte(hosts("a"))); err != nil || req.Host != "a" || req.URL.Host != "a" {
		t.Errorf("host field alone: %v, %v", req, err)
	}
	for name, c := range map[string]struct {
		message string
		want    error
	}{
		"path in host":           {hosts("a/b"), ErrInvalid},
		"user in host":           {hosts("a@b"), ErrInvalid},
		"query in host":          {hosts("a?b"), ErrInvalid},
		"space in host":          {hosts("a b"), ErrInvalid},
		"control in host":        {hosts("a\x7fb"), ErrInvalid},
		"two hosts":              {hosts("a", "a"), ErrInvalid},
		"framing":                {"\x04", ErrInvalid},
		"a response":             {"\x01\x40\xc8", ErrInvalid},
		"method":                 {"\x00\x03G T\x05https\x01a\x01/", ErrInvalid},
		"no method":              {"\x00\x00\x05https\x01a\x01/", ErrInvalid},
		"CONNECT":                {"\x00\x07CONNECT\x05https\x01a\x01/", ErrInvalid},
		"scheme":                 {"\x00\x03GET\x04file\x01a\x01/", ErrInvalid},
		"user in authority":      {"\x00\x03GET\x05https\x03a@b\x01/", ErrInvalid},
		"path in authority":      {"\x00\x03GET\x05https\x03a/b\x01/", ErrInvalid},
		"newline in authority":   {"\x00\x03GET\x05https\x03a\nb\x01/", ErrInvalid},
		"no path":                {"\x00\x03GET\x05https\x01a\x00", ErrInvalid},
		"absolute path":          {"\x00\x03GET\x05https\x01a\x08http://b", ErrInvalid},
		"space in path":          {"\x00\x03GET\x05https\x01a\x03/ b", ErrInvalid},
		"newline in path":        {"\x00\x03GET\x05https\x01a\x03/\nb", ErrInvalid},
		"fragment in path":       {"\x00\x03GET\x05https\x01a\x03/#b", ErrInvalid},
		"asterisk for GET":       {"\x00\x03GET\x05https\x01a\x01*", ErrInvalid},
		"bad escape in path":     {"\x00\x03GET\x05https\x01a\x04/%zz", ErrInvalid},
		"pseudo-field":           {field(":path", "/"), ErrInvalid},
		"other pseudo-field":     {field(":protocol", "x"), ErrInvalid},
		"empty field name":       {head + "\x02\x00\x00", ErrInvalid},
		"space in field name":    {field("a b", ""), ErrInvalid},
		"colon in field name":    {field("a:", ""), ErrInvalid},
		"high byte in name":      {field("\xe9", ""), ErrInvalid},
		"newline in value":       {field("a", "b\nc"), ErrInvalid},
		"NUL in value":           {field("a", "b\x00c"), ErrInvalid},
		"space before value":     {field("a", " b"), ErrInvalid},
		"tab after value":        {field("a", "b\t"), ErrInvalid},
		"other host":             {field("host", "b"), ErrInvalid},
		"bad host":               {field("host", "a/b"), ErrInvalid},
		"content-length":         {field("content-length", "x"), ErrInvalid},
		"content-length signed":  {field("content-length", "+1") + "\x01x", ErrInvalid},
		"content-length differs": {field("content-length", "2") + "\x01x", ErrInvalid},
		"content-length missing": {field("content-length", "2"), ErrInvalid},
		"two content-lengths":    {head + "\x22\x0econtent-length\x011\x0econtent-length\x011\x01x", ErrInvalid},
		"field beyond section":   {head + "\x03\x01a\x05bbbbb", io.ErrUnexpectedEOF},
		"padding":                {head + "\x00\x00\x00\x00\x01", ErrInvalid},
		"padding, later":         {head + "\x00\x01x\x00" + strings.Repeat("\x00", 1000) + "\x01", ErrInvalid},
		"bad trailer":            {head + "\x00\x01x\x04\x01 \x01b", ErrInvalid},
		"method too long":        {"\x00\xbf\xff\xff\xff", ErrLimit},
		"path too long":          {"\x00\x03GET\x05https\x01a\xc0\x00\x00\xff\xff\xff\xff\xff", ErrLimit},
		"section too long":       {head + "\x80\x01\x00\x00", ErrLimit},
		"too many fields":        {head + "\x44\x04" + strings.Repeat("\x01a\x00", 257) + strings.Repeat("\x01", 257), ErrLimit},
		"trailer too long":       {head + "\x00\x01x\x80\x02\x00\x00", ErrLimit},
		"nothing":                {"", io.ErrUnexpectedEOF},
		"half an integer":        {"\x40", io.ErrUnexpectedEOF},
	} {
		if req, body, err := readRequest([]byte(c.message)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v, %q", name, err, req, body)
		}
	}
	line := strings.Repeat("\x01a\x00", 300)
	indeterminate := "\x02\x03GET\x05https\x01a\x01/"
	for name, c := range map[string]struct {
		message string
		want    error
	}{
		"too many fields":    {indeterminate + line + "\x00", ErrLimit},
		"field too long":     {indeterminate + "\x01a\x80\x01\x00\x00", ErrLimit},
		"header too long":    {indeterminate + strings.Repeat("\x01a\x40\xff"+strings.Repeat("x", 255), 300), ErrLimit},
		"name too long":      {indeterminate + "\xff\xff\xff\xff\xff\xff\xff\xff", ErrLimit},
		"no end of header":   {indeterminate + "\x01a\x01b", io.ErrUnexpectedEOF},
		"no end of content":  {indeterminate + "\x00\x01x", io.ErrUnexpectedEOF},
		"content-length off": {indeterminate + "\x0econtent-length\x011\x00\x02xx\x00\x00", ErrInvalid},
		"padding":            {indeterminate + "\x00\x00\x00\x00\x02", ErrInvalid},
	} {
		if req, body, err := readRequest([]byte(c.message)); !errors.Is(err, c.want) {
			t.Errorf("indeterminate, %s: %v, %v, %q", name, err, req, body)
		}
	}
	for name, c := range map[string]struct {
		message string
		want    error
	}{
		"status 99":                 {"\x01\x40\x63", ErrInvalid},
		"status 600":                {"\x01\x42\x58", ErrInvalid},
		"status 101":                {"\x01\x40\x65\x00\x40\xc8", ErrInvalid},
		"no final status":           {"\x01\x40\x66\x00", io.ErrUnexpectedEOF},
		"a request":                 {"\x00", ErrInvalid},
		"204 with content":          {"\x01\x40\xcc\x00\x01x", ErrInvalid},
		"304 with content":          {"\x03\x41\x30\x00\x01x\x00\x00", ErrInvalid},
		"too many informational":    {"\x01" + strings.Repeat("\x40\x66\x00", 4097) + "\x40\xc8", ErrLimit},
		"content-length too small":  {"\x03\x40\xc8\x0econtent-length\x013\x00\x02hi\x00\x00", ErrInvalid},
		"content-length contradict": {"\x01\x40\xc8\x11\x0econtent-length\x013\x02hi\x00", ErrInvalid},
	} {
		if resp, body, err := readResponse([]byte(c.message), nil); !errors.Is(err, c.want) {
			t.Errorf("response, %s: %v, %v, %q", name, err, resp, body)
		}
	}
	if _, _, err := readResponse([]byte("\x01\x40\xc8\x00\x01x"), &http.Request{Method: "HEAD"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("HEAD with content: %v", err)
	}
	if resp, _, err := readResponse([]byte("\x01\x40\xc8\x11\x0econtent-length\x013\x00"), &http.Request{Method: "HEAD"}); err != nil || resp.ContentLength != 3 {
		t.Errorf("HEAD: %v, %v", resp, err)
	}
}

func TestLimits(t *testing.T) {
	small := Limits{HeaderBytes: 40, Fields: 2, Informational: 1}
	for message, ok := range map[string]bool{
		"\x01\x40\xc8\x06\x01a\x00\x01b\x00":                       true,
		"\x01\x40\xc8\x09\x01a\x00\x01b\x00\x01c\x00":              false,
		"\x01\x40\xc8\x29" + strings.Repeat("x", 41):               false,
		"\x01\x40\x66\x00\x40\xc8":                                 true,
		"\x01\x40\x66\x00\x40\x66\x00\x40\xc8":                     false,
		"\x03\x40\xc8\x01a\x26" + strings.Repeat("x", 38) + "\x00": false,
		"\x03\x40\xc8\x01a\x20" + strings.Repeat("x", 32) + "\x00": true,
	} {
		_, err := ReadResponse(reader([]byte(message)), nil, small, nil)
		if ok != (err == nil) || !ok && !errors.Is(err, ErrLimit) {
			t.Errorf("%q: %v", message, err)
		}
	}
}

func TestConnectionFields(t *testing.T) {
	req, _, err := readRequest([]byte("\x02\x03GET\x05https\x01a\x01/" +
		"\x0aconnection\x06x-a, b\x03x-a\x011\x01b\x012\x01c\x013\x11transfer-encoding\x07chunked\x07upgrade\x01z\x00"))
	if err != nil || fmt.Sprint(req.Header) != "map[C:[3]]" {
		t.Errorf("%v, %v", req, err)
	}
	b, err := AppendResponseHead(nil, 200, http.Header{"Connection": {"X-A", "b"}, "X-A": {"1"}, "B": {"2"}, "C": {" 3\t", "4"}, "Keep-Alive": {"5"}})
	if want := "\x40\xc8\x01c\x013\x01c\x014\x00"; err != nil || string(b) != want {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAppendRefused(t *testing.T) {
	req := func(f func(r *http.Request)) error {
		r, err := http.NewRequest("GET", "https://a/b", nil)
		if err != nil {
			t.Fatal(err)
		}
		f(r)
		_, err = AppendRequestHead(nil, r, 0)
		return err
	}
	for name, err := range map[string]error{
		"method":        req(func(r *http.Request) { r.Method = "" + "\n" }),
		"CONNECT":       req(func(r *http.Request) { r.Method = "CONNECT" }),
		"no URL":        req(func(r *http.Request) { r.URL = nil }),
		"scheme":        req(func(r *http.Request) { r.URL.Scheme = "ws" }),
		"authority":     req(func(r *http.Request) { r.Host = "a b" }),
		"opaque":        req(func(r *http.Request) { r.URL.Opaque = "x:y" }),
		"field name":    req(func(r *http.Request) { r.Header["a b"] = []string{""} }),
		"field value":   req(func(r *http.Request) { r.Header["A"] = []string{"b\r\nc: d"} }),
		"status 101":    second(AppendInformational(nil, 101, nil)),
		"status 200":    second(AppendInformational(nil, 200, nil)),
		"status 100":    second(AppendResponseHead(nil, 100, nil)),
		"status 600":    second(AppendResponseHead(nil, 600, nil)),
		"trailer field": second(AppendTrailer(nil, http.Header{"Content-Length": {"1"}}, true)),
	} {
		if err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if err := req(func(r *http.Request) { r.Header["A"] = []string{"secret\x00"} }); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error repeats the value: %v", err)
	}
}

func second(_ []byte, err error) error { return err }

func TestVarint(t *testing.T) {
	for v, want := range map[uint64]string{
		37: "25", 15293: "7bbd", 494878333: "9d7f3e7d", 151288809941952652: "c2197c5eff14e88c", // RFC 9000 appendix A.1
		0: "00", 63: "3f", 64: "4040", 16383: "7fff", 16384: "80004000", 1<<30 - 1: "bfffffff", 1 << 30: "c000000040000000", 1<<62 - 1: "ffffffffffffffff",
	} {
		b := AppendVarint(nil, v)
		if hex.EncodeToString(b) != want || VarintLen(v) != len(b) {
			t.Errorf("%d: %x", v, b)
		}
		d := decoder{r: reader(b)}
		if got, err := d.varint(); got != v || err != nil {
			t.Errorf("%x: %d, %v", b, got, err)
		}
	}
	// Longer than need be is allowed (RFC 9292 section 3).
	d := decoder{r: reader(unhex(t, "4025"))}
	if got, err := d.varint(); got != 37 || err != nil {
		t.Errorf("4025: %d, %v", got, err)
	}
	defer func() {
		if recover() == nil {
			t.Error("2^62 was encoded")
		}
	}()
	AppendVarint(nil, 1<<62)
}

// A Reader's error comes through, and content that has arrived comes first.
func TestReaderError(t *testing.T) {
	broken := errors.New("broken")
	message := "\x03\x40\xc8\x00\x02hi\x02"
	resp, err := ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(message), iotest.ErrReader(broken))), nil, Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "hi" || err != broken {
		t.Errorf("%q, %v", body, err)
	}
	for n := range len(message) - 3 {
		_, err := ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(message[:n]), iotest.ErrReader(broken))), nil, Limits{}, nil)
		if n < 4 && err != broken {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// FuzzRequest: what is accepted can be written again, in both framings, and means the same.
func FuzzRequest(f *testing.F) {
	f.Add(unhex(f, exampleKnown))
	f.Add(unhex(f, exampleIndeterminate))
	f.Add([]byte("\x02\x04POST\x05https\x01a\x04/a?b\x01c\x01d\x00\x03abc\x02de\x00\x01t\x01u\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, body, err := readRequest(b)
		if err != nil {
			return
		}
		for _, length := range []int64{int64(len(body)), -1} {
			again, err := AppendRequestHead(nil, req, length)
			if err != nil {
				t.Fatalf("%q was accepted and cannot be written: %v", b, err)
			}
			again = appendContent(again, body, length >= 0)
			again = append(appendTrailer(t, again, req.Trailer, length >= 0), 0, 0, 0)
			req2, body2, err := readRequest(again)
			if err != nil {
				t.Fatalf("%q became %q: %v", b, again, err)
			}
			delete(req.Header, "Content-Length")
			if req2.Method != req.Method || req2.RequestURI != req.URL.RequestURI() || req2.Host != req.Host || !bytes.Equal(body, body2) ||
				fmt.Sprint(req2.Header) != fmt.Sprint(req.Header) {
				t.Errorf("%q changed:\n%+v\n%+v", b, req, req2)
			}
		}
	})
}

func appendContent(b, body []byte, known bool) []byte {
	if known {
		return append(b, body...)
	}
	if len(body) > 0 {
		b = append(AppendVarint(b, uint64(len(body))), body...)
	}
	return append(b, 0)
}

// appendTrailer leaves out what may be read in a trailer section and not written there.
func appendTrailer(t *testing.T, b []byte, h http.Header, known bool) []byte {
	for name := range h {
		if _, err := AppendTrailer(nil, http.Header{name: nil}, known); err != nil {
			delete(h, name)
		}
	}
	b, err := AppendTrailer(b, h, known)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzResponse: likewise for responses, informational ones included.
func FuzzResponse(f *testing.F) {
	f.Add(unhex(f, exampleResponse))
	f.Add(unhex(f, exampleTrailer))
	f.Add([]byte("\x01\x40\xc8"))
	f.Fuzz(func(t *testing.T, b []byte) {
		again := AppendResponseFraming(nil)
		resp, err := ReadResponse(reader(b), nil, Limits{}, func(status int, h http.Header) {
			var err error
			if again, err = AppendInformational(again, status, h); err != nil {
				t.Fatal(err)
			}
		})
		if err != nil {
			return
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		if again, err = AppendResponseHead(again, resp.StatusCode, resp.Header); err != nil {
			t.Fatal(err)
		}
		again = appendTrailer(t, appendContent(again, body, false), resp.Trailer, false)
		resp2, body2, err := readResponse(again, nil)
		if err != nil || resp2.StatusCode != resp.StatusCode || !bytes.Equal(body, body2) || fmt.Sprint(resp2.Header) != fmt.Sprint(resp.Header) {
			t.Errorf("%q changed: %+v, %+v, %v", b, resp, resp2, err)
		}
	})
}
