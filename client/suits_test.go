package client

import (
	"encoding/hex"
	"testing"

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
