// Command heimdall is heimdall, as its own repository builds it.
package main

import "github.com/dadrus/heimdall/cmd"

func main() { cmd.Execute() }
