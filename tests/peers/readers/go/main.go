// A reader of a key set in Go: verifies each token that it is sent, a line each, with jwx, and says "ok" or why not.
// readers <url of the key set> <issuer> <audience> <seconds that it caches>
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

func main() {
	url, issuer, audience := os.Args[1], os.Args[2], os.Args[3]
	seconds, err := strconv.Atoi(os.Args[4])
	check(err)
	ctx := context.Background()
	cache, err := jwk.NewCache(ctx, httprc.NewClient())
	check(err)
	check(cache.Register(ctx, url, jwk.WithConstantInterval(time.Duration(seconds)*time.Second)))
	keys, err := cache.CachedSet(url)
	check(err)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		_, err := jwt.Parse(lines.Bytes(), jwt.WithKeySet(keys), jwt.WithIssuer(issuer), jwt.WithAudience(audience))
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("ok")
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
