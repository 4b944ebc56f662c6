package apierror

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	w := httptest.NewRecorder()
	e := New(402, "insufficient_credit", "the channel is empty", "top it up")
	e.Param = "x"
	e.Write(w)
	got := Read(w.Result())
	if got.Status != 402 || got.Type != "insufficient_credit" || got.Code != "insufficient_credit" || got.Param != "x" ||
		got.Message != "the channel is empty; top it up" {
		t.Fatalf("%+v", got)
	}
}

func TestReadAnything(t *testing.T) {
	for _, body := range []string{"", "<html>", `{"error":"x"}`, `{}`, strings.Repeat("x", 1<<20)} {
		e := Read(&http.Response{StatusCode: 503, Body: io.NopCloser(strings.NewReader(body))})
		if e.Type != "server_error" || e.Message != "peer answered 503 Service Unavailable" {
			t.Errorf("%.20q: %+v", body, e)
		}
	}
}

// What states no error is one all the same: passed on, its status would be taken for a success, or for no answer at all.
func TestReadOddStatus(t *testing.T) {
	for _, status := range []int{0, 99, 101, 200, 201, 204, 304, 307, 600, 999} {
		e := Read(&http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(`{"error":{"message":"no","code":"x"}}`))})
		if e.Status != 502 || e.Type != "server_error" || e.Code != "x" {
			t.Errorf("%d: %+v", status, e)
		}
	}
}

func TestTypes(t *testing.T) {
	for status, want := range map[int]string{401: "authentication_error", 403: "authentication_error", 402: "insufficient_credit",
		429: "rate_limit_error", 400: "invalid_request_error", 502: "server_error"} {
		if got := New(status, "", "", "").Type; got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

func TestReadCannotSteerATerminal(t *testing.T) {
	e := Read(&http.Response{StatusCode: 400, Body: io.NopCloser(strings.NewReader(
		`{"error":{"message":"a\u001b]52;c;x\u0007\u009b2J\u202eb` + strings.Repeat("x", 1<<14) + `","type":"\u001bt","param":"\rp","code":"\nc"}}`))})
	if e.Message[:20] != "a ]52;c;x  2J b"+"xxxxx" || len(e.Message) > 5000 || e.Type != " t" || e.Param != " p" || e.Code != " c" {
		t.Errorf("%+v", e)
	}
}
