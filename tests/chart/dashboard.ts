// What a dashboard of time series is, by Grafana's own types; tests/chart/test_dashboard.py puts the JSON below.
import type { Dashboard, Panel } from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";
import type {
  FieldConfig,
  Options,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// In JSON an enumeration is its text.
type Json<T> = T extends string
  ? `${T}`
  : T extends (infer E)[]
    ? Json<E>[]
    : T extends object
      ? { [K in keyof T]: Json<T[K]> }
      : T;
type Defaults = NonNullable<NonNullable<Panel["fieldConfig"]>["defaults"]>;
type Series = Omit<Panel, "type" | "options" | "fieldConfig"> & {
  type: "timeseries";
  options?: Partial<Options>;
  fieldConfig: { defaults: Omit<Defaults, "custom"> & { custom?: FieldConfig }; overrides: [] };
};
type OfSeries = Omit<Dashboard, "panels"> & { panels: Series[] };
