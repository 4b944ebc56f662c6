package engine_test

import (
	"encoding/json"
	"testing"

	"github.com/bombyx-network/bombyx/enclave/engine"
)

func TestRequestErrorJSON(t *testing.T) {
	for _, c := range []struct {
		err  engine.RequestError
		want string
	}{
		{
			engine.RequestError{Status: 400, Message: "too\nlong", Param: "messages", Code: "context_length_exceeded"},
			`{"error":{"message":"too\nlong","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`,
		},
		{
			engine.RequestError{Status: 429, Message: "busy"},
			`{"error":{"message":"busy","type":"rate_limit_error","param":null,"code":null}}`,
		},
		{
			engine.RequestError{Status: 503, Message: "busy", Type: "overloaded"},
			`{"error":{"message":"busy","type":"overloaded","param":null,"code":null}}`,
		},
		{
			engine.RequestError{Status: 500, Message: "broken"},
			`{"error":{"message":"broken","type":"server_error","param":null,"code":null}}`,
		},
	} {
		got := c.err.JSON()
		if string(got) != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if !json.Valid(got) {
			t.Errorf("%s is not JSON", got)
		}
	}
}
