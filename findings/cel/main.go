// Evaluates one CEL expression a line with cel-go, for the scripts beside this folder.
package main

import (
	"bufio"
	"fmt"
	"os"

	"cel.dev/cel-go/cel"
)

func main() {
	env, err := cel.NewEnv(cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		panic(err)
	}
	claims := map[string]any{"scope": "orders:read", "member": true, "level": int64(2)}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(evaluate(env, lines.Text(), claims))
	}
}

func evaluate(env *cel.Env, expression string, claims map[string]any) any {
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return "error"
	}
	program, err := env.Program(ast)
	if err != nil {
		return "error"
	}
	value, _, err := program.Eval(map[string]any{"claims": claims})
	if err != nil {
		return "error"
	}
	return value.Value()
}
