// Verifies one token by a key set with go-jose, jwx and keyfunc. Arguments: the key set's file, the token's file.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-jose/go-jose/v4"
	jwt5 "github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

func goJose(document []byte, token string) error {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(document, &set); err != nil {
		return err
	}
	signed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err == nil {
		_, err = signed.Verify(&set)
	}
	return err
}

func jwx(document []byte, token string) error {
	set, err := jwk.Parse(document)
	if err == nil {
		_, err = jwt.Parse([]byte(token), jwt.WithKeySet(set))
	}
	return err
}

func keyFunc(document []byte, token string) error {
	keys, err := keyfunc.NewJWKSetJSON(document)
	if err == nil {
		_, err = jwt5.Parse(token, keys.Keyfunc)
	}
	return err
}

func main() {
	document, _ := os.ReadFile(os.Args[1])
	token, _ := os.ReadFile(os.Args[2])
	for _, library := range []struct {
		name   string
		verify func([]byte, string) error
	}{{"go-jose", goJose}, {"jwx", jwx}, {"keyfunc", keyFunc}} {
		verdict := "verified"
		if library.verify(document, string(token)) != nil {
			verdict = "the whole set is refused"
		}
		fmt.Printf("    %s: %s\n", library.name, verdict)
	}
}
