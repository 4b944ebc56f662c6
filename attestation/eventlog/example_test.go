package eventlog_test

import (
	"fmt"
	"log"

	"github.com/bombyx-network/bombyx/attestation/eventlog"
)

// A runtime event of dstack is believable when the log replays to the RTMR of
// a verified quote and the event's digest covers its payload.
func Example() {
	document := []byte(`[{"imr":3,"event_type":134217729,"digest":"","event":"app-id","event_payload":"c0ffee"}]`)
	l, err := eventlog.ParseDstack(document)
	if err != nil {
		log.Fatal(err)
	}
	// In earnest the registers come from a quote that package dcap has verified.
	registers, err := eventlog.Replay(l)
	if err != nil {
		log.Fatal(err)
	}
	checks, err := eventlog.Verify(registers, l)
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range checks {
		fmt.Println(c.Status, c.ID)
	}
	app, err := l.Runtime("app-id")
	fmt.Printf("app-id %x, %v\n", app, err)
	// Output:
	// PASS eventlog.rtmr3
	// PASS eventlog.digests
	// app-id c0ffee, <nil>
}
