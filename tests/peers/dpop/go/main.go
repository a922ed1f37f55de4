// A client of DPoP in Go: indigo, by which programs reach servers of the AT protocol. It gets a token that is bound to
// its key, then asks for the URL of each line of standard input.
// dpop <token endpoint> <host:port that leads to hosts under .test> <seconds that its clock is ahead once it has a token>
// A line is JSON: `url`, and `method`, for which proofs are signed, though GET is always sent. For each it writes a line:
// `exchanges`, all that was sent and answered, and `tokens`, how many it asked for.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth/oauth"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

const clientID, secret = "batch", "secret"

// exchange is one request, and its answer.
type exchange struct {
	Status        int      `json:"status"`
	Challenges    []string `json:"challenges"`
	Nonce         string   `json:"nonce"`
	Body          string   `json:"body"`
	Authorization string   `json:"authorization"`
	Proof         string   `json:"proof"`
}

// wire sends each request as GET, and notes it.
type wire struct {
	transport http.Transport
	made      []exchange
}

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	sent := request.Clone(request.Context())
	sent.Method = http.MethodGet
	answer, err := w.transport.RoundTrip(sent)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	answer.Body = io.NopCloser(bytes.NewReader(body))
	w.made = append(w.made, exchange{
		Status:        answer.StatusCode,
		Challenges:    append([]string{}, answer.Header.Values("WWW-Authenticate")...),
		Nonce:         answer.Header.Get("DPoP-Nonce"),
		Body:          string(body),
		Authorization: sent.Header.Get("Authorization"),
		Proof:         sent.Header.Get("DPoP"),
	})
	return answer, nil
}

func main() {
	endpoint, proxy := os.Args[1], os.Args[2]
	ahead, err := strconv.Atoi(os.Args[3])
	check(err)
	key, err := atcrypto.GeneratePrivateKeyP256()
	check(err)
	token := fetchToken(endpoint, key)
	if ahead == 0 {
		answerLines(endpoint, proxy, key, token)
		return
	}
	// indigo reads the system's clock. In a bubble of synctest there is another one, which begins in the year 2000 and is
	// put forward by sleeping.
	wrong := time.Now().Add(time.Duration(ahead) * time.Second)
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "client", F: func(t *testing.T) {
		synctest.Test(t, func(*testing.T) {
			time.Sleep(time.Until(wrong))
			answerLines(endpoint, proxy, key, token)
		})
	}}}, nil, nil)
}

// fetchToken gets a token by client_credentials, which indigo itself does not use.
func fetchToken(endpoint string, key atcrypto.PrivateKey) string {
	proof, err := oauth.NewAuthDPoP(http.MethodPost, endpoint, "", key)
	check(err)
	form := url.Values{"grant_type": {"client_credentials"}}
	request, err := http.NewRequest(http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	check(err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("DPoP", proof)
	request.SetBasicAuth(clientID, secret)
	answer, err := http.DefaultClient.Do(request)
	check(err)
	defer answer.Body.Close()
	var tokens struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
	}
	check(json.NewDecoder(answer.Body).Decode(&tokens))
	if tokens.TokenType != "DPoP" {
		check(fmt.Errorf("%s: token_type %q", answer.Status, tokens.TokenType))
	}
	http.DefaultClient.CloseIdleConnections()
	return tokens.AccessToken
}

func answerLines(endpoint, proxy string, key atcrypto.PrivateKey, token string) {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(address); strings.HasSuffix(strings.ToLower(host), ".test") {
			address = proxy
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	wire := &wire{transport: http.Transport{DialContext: dial, DisableKeepAlives: true}}
	client := &http.Client{Transport: wire}
	config := oauth.NewPublicConfig(clientID, "", nil)
	session := oauth.ClientSession{
		Client:                 client,
		Config:                 &config,
		Data:                   &oauth.ClientSessionData{AccessToken: token, AuthServerTokenEndpoint: endpoint},
		DPoPPrivateKey:         key,
		PersistSessionCallback: func(context.Context, *oauth.ClientSessionData) {},
	}
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var order struct{ URL, Method string }
		check(json.Unmarshal(orders.Bytes(), &order))
		request, err := http.NewRequest(order.Method, order.URL, nil)
		check(err)
		wire.made = nil
		_, err = session.DoWithAuth(client, request, syntax.NSID("test.orders.get"))
		check(err)
		check(json.NewEncoder(os.Stdout).Encode(map[string]any{"exchanges": wire.made, "tokens": 1}))
	}
	check(orders.Err())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
