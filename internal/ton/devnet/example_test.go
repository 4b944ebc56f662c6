package devnet_test

import (
	"context"
	"fmt"
	"log"

	"github.com/xssnick/tonutils-go/address"

	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/devnet"
)

func Example() {
	ctx := context.Background()
	chain, err := devnet.New(devnet.Config{SealOnSend: true})
	if err != nil {
		log.Fatal(err)
	}
	defer chain.Close()
	if _, err = chain.Serve(ctx, "127.0.0.1:0"); err != nil {
		log.Fatal(err)
	}

	client, err := ton.Dial(ctx, chain.GlobalConfig(), ton.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	someone := address.NewAddress(0, 0, make([]byte, 32))
	if err = chain.Fund(someone, uint64(5*ton.Gram)); err != nil {
		log.Fatal(err)
	}
	account, err := client.Account(ctx, someone)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(account.Balance, "GRAM")
	// Output: 5 GRAM
}
