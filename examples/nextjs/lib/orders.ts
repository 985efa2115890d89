// Your database.
export type Order = { job: string; state: string; sequence: number; urls: string[] };

export const orders = new Map<string, Order>();
