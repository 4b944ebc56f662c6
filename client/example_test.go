package client_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/client"
)

// A program that has a channel asks a model. Whatever takes an http.Client takes this one: an OpenAI SDK gets it with
// client.BaseURL as its base URL.
func Example() {
	document, err := os.ReadFile("policy.json")
	if err != nil {
		log.Fatal(err)
	}
	pol, err := policy.Parse(document)
	if err != nil {
		log.Fatal(err)
	}
	var hostKey ed25519.PublicKey // 32 bytes, from the provider or a registry
	var payment client.Payment    // an open channel, its key, and its progress so far
	transport, err := client.New(client.Config{
		Host: "https://host.example", HostKey: hostKey,
		Policy:    pol,
		Payment:   payment,
		MaxPrices: client.Prices{Prompt: 20_000_000, Cached: 5_000_000, Completion: 100_000_000, Reasoning: 100_000_000},
		Window:    2_000_000, // nanogram: the most that the host can take without delivering
	})
	if err != nil {
		log.Fatal(err)
	}
	ai := &http.Client{Transport: transport}
	question := `{"model":"qwen3-8b","stream":true,"messages":[{"role":"user","content":"What is remote attestation?"}]}`
	resp, err := ai.Post(client.BaseURL+"/chat/completions", "application/json", bytes.NewBufferString(question))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	// An answer counts once its body has ended with io.EOF: then its end is authenticated and its receipt valid.
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.Status, len(answer))
}
