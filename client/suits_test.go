package client

import (
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// A channel pays only the host whose card asks for just such a channel; another contract may be one in another asset.
func TestCardMustSuitTheChannel(t *testing.T) {
	code := channel.CodeHash()
	u := &purse{p: Payment{Network: -239, Channel: channel.Params{Payee: channel.Address{1}, CloseDelay: 3600}}}
	good := card.Card{Network: -239, Payee: channel.Address{1}.Raw(), ChannelCode: hex.EncodeToString(code[:]), ClosingDelay: 3600}
	if fault := u.suits(&good); fault != nil {
		t.Fatal(fault)
	}
	for name, change := range map[string]func(*card.Card){
		"network":  func(c *card.Card) { c.Network = -3 },
		"payee":    func(c *card.Card) { c.Payee = channel.Address{2}.Raw() },
		"contract": func(c *card.Card) { c.ChannelCode = hex.EncodeToString(make([]byte, 32)) },
		"delay":    func(c *card.Card) { c.ClosingDelay++ },
	} {
		c := good
		change(&c)
		if fault := u.suits(&c); fault == nil || fault.Code != "unsuitable_channel" {
			t.Errorf("another %s: %v", name, fault)
		}
	}
}

// Clients prefer different enclaves, and each one always the same.
func TestClientsSpread(t *testing.T) {
	first := map[string]int{}
	for i := range 400 {
		tr := &Transport{purse: &purse{salt: fmt.Sprint(i)}}
		all := []card.Enclave{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}}
		tr.prefer(all)
		again := []card.Enclave{{ID: "d"}, {ID: "b"}, {ID: "a"}}
		tr.prefer(again)
		if without := slices.DeleteFunc(slices.Clone(all), func(e card.Enclave) bool { return e.ID == "c" }); !slices.EqualFunc(without, again, func(a, b card.Enclave) bool { return a.ID == b.ID }) {
			t.Fatalf("%v, and without c %v", all, again)
		}
		first[all[0].ID]++
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		if first[id] < 70 || first[id] > 130 {
			t.Errorf("%d of 400 clients prefer %s", first[id], id)
		}
	}
}

// Who failed is asked last, for twice as long each time; many failures at once are one, and what is remembered is bounded.
func TestRests(t *testing.T) {
	var r rests
	now := time.Unix(1e9, 0)
	for _, want := range []time.Duration{10, 20, 40, 80, 160, 320, 600, 600} {
		for range 3 {
			r.failed("1", now)
		}
		if !r.resting("1", now.Add(want*time.Second-1)) || r.resting("1", now.Add(want*time.Second)) {
			t.Errorf("it does not rest for %d s", want)
		}
		now = now.Add(want * time.Second)
	}
	r.served("1")
	r.failed("1", now)
	if r.resting("1", now.Add(firstRest)) {
		t.Error("a success is forgotten")
	}
	for i := range 10 * maxRests {
		r.failed(fmt.Sprint(i), now)
	}
	if len(r.of) > maxRests {
		t.Errorf("%d are remembered", len(r.of))
	}
}

// A host that shows another enclave with each card, and then does not know it, is not remembered without end.
func TestLostEnclavesAreBounded(t *testing.T) {
	tr := &Transport{enclaves: map[string]*attested{}, lost: map[string]bool{}}
	for i := range 3 * maxRests {
		e := &attested{id: fmt.Sprint(i)}
		tr.enclaves[e.id] = e
		if tr.forget(e); !tr.lost[e.id] {
			t.Fatal("the last is not remembered")
		}
	}
	if len(tr.lost) > maxRests {
		t.Errorf("%d are remembered", len(tr.lost))
	}
}
