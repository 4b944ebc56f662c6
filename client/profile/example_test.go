package profile_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
)

// After "bombyx wallet new", "bombyx host add" and "bombyx channel open" a program asks a model. Whatever takes an http.Client
// takes this one: an OpenAI SDK gets it with client.BaseURL as its base URL.
func Example() {
	dir, err := profile.Default()
	if err != nil {
		log.Fatal(err)
	}
	line, err := dir.Dial(context.Background(), profile.Options{
		Passphrase: func(context.Context, string) (string, error) { return os.Getenv("BOMBYX_PASSPHRASE"), nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	ai := &http.Client{Transport: line}
	question := `{"model":"` + line.Ends[0].Host.Model + `","messages":[{"role":"user","content":"What is remote attestation?"}]}`
	resp, err := ai.Post(client.BaseURL+"/chat/completions", "application/json", strings.NewReader(question))
	if err != nil {
		log.Fatal(err)
	}
	// An answer counts once its body has ended with io.EOF: then its end is authenticated and its receipt valid.
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, string(answer))
	if err := line.Close(); err != nil { // what was paid is on disk now
		log.Fatal(err)
	}
}
